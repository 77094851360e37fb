"""How long a peer that broke the protocol is shut out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.quarantine import FORGIVEN_S, MOST, Quarantine
from meshnode.model.ids import NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def test_each_breach_doubles_the_time_up_to_the_longest_and_an_hour_in_order_forgives() -> None:
    shut = Quarantine(60.0, 3600.0)
    now, lengths = 0.0, []
    for _ in range(8):
        shut.breached(node(1), now)
        left_s = shut.left_s(node(1), now)
        assert left_s is not None
        lengths.append(left_s)
        now += left_s
        assert shut.left_s(node(1), now) is None
    assert lengths == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]
    shut.breached(node(1), now + FORGIVEN_S)
    assert shut.left_s(node(1), now + FORGIVEN_S) == 60.0


def test_what_a_peer_did_before_it_was_shut_out_belongs_to_one_breach() -> None:
    shut = Quarantine(60.0, 3600.0)
    for moment in range(10):
        shut.breached(node(1), float(moment))
    assert shut.until(node(1)) == 60.0


def test_others_are_free() -> None:
    shut = Quarantine(60.0, 3600.0)
    shut.breached(node(1), 0.0)
    assert shut.left_s(node(2), 0.0) is None and shut.until(None) == float("-inf")


@given(st.lists(st.floats(0.0, 10_000.0), max_size=60), st.floats(0.0, 100.0), st.floats(0.0, 5000.0))
def test_nobody_is_shut_out_longer_than_the_longest(waits: list[float], first_s: float, most_s: float) -> None:
    shut, now = Quarantine(first_s, most_s), 0.0
    for wait_s in waits:
        now += wait_s
        shut.breached(node(1), now)
        left_s = shut.left_s(node(1), now)
        assert left_s is None or left_s <= most_s + 1e-6


def test_the_table_is_bounded_and_keeps_those_that_are_shut_out() -> None:
    shut = Quarantine(60.0, 3600.0)
    for number in range(MOST):
        shut.breached(node(number), number / 100.0)
    shut.breached(node(MOST), 70.0)
    assert len(shut._shut) == MOST
    assert shut.until(node(0)) == float("-inf") and shut.left_s(node(MOST - 1), 70.0) is not None
