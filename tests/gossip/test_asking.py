"""When a peer is asked to dial."""

from __future__ import annotations

import random

from meshnode.gossip.asking import ASK_MIN_S, PACE_S, Asking
from meshnode.model.ids import NodeId

NODES = [NodeId(bytes([n]) * 32) for n in range(20)]


def test_many_are_asked_one_after_the_other() -> None:
    asking = Asking(random.Random(1))
    assert asking.choose(NODES, 0.0) is None and asking.next_due() == ASK_MIN_S
    asked, now = [], 0.0
    while len(set(asked)) < len(NODES):
        now = asking.next_due() or 0.0
        peer = asking.choose(NODES, now)
        assert peer is not None
        asked.append(peer)
        assert asking.choose(NODES, now) is None
        due = asking.next_due()
        assert due is not None and due >= now + PACE_S
    assert now < 3600.0


def test_whoever_can_be_dialled_again_is_not_asked_and_begins_anew_later() -> None:
    asking = Asking(random.Random(1))
    asking.choose(NODES[:1], 0.0)
    assert asking.choose(NODES[:1], 5.0) == NODES[0]
    assert asking.choose([], 6.0) is None and asking.next_due() is None
    assert asking.choose(NODES[:1], 100.0) is None and asking.choose(NODES[:1], 105.0) == NODES[0]
    asking.anew()
    assert asking.next_due() is None
