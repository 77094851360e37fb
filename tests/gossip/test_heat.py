"""Which peers are asked so often that a link of their own is worth it."""

from __future__ import annotations

from meshnode.gossip.heat import COLD_S, HOT_REQUESTS, MOST_HOT, MOST_WARM, Heat
from meshnode.model.ids import NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def test_ten_requests_within_thirty_seconds_over_relays_make_a_peer_hot() -> None:
    heat = Heat()
    assert [heat.requested(node(1), 3.0 * n, relayed=True) for n in range(10)] == [False] * 9 + [True]
    assert node(1) in heat and not heat.requested(node(1), 31.0, relayed=True)
    assert not any(heat.requested(node(2), 3.4 * n, relayed=True) for n in range(50))
    assert not any(heat.requested(node(3), 0.0, relayed=False) for n in range(50))


def test_ten_minutes_without_a_request_make_it_cold() -> None:
    heat = Heat()
    heat.heat(node(1), 0.0)
    heat.requested(node(1), 100.0, relayed=False)
    assert heat.cold(99.0 + COLD_S) == [] and heat.cold(100.0 + COLD_S) == [node(1)]
    assert heat.cool(node(1)) and not heat.cool(node(1)) and heat.cold(1e9) == []


def test_of_too_many_those_used_longest_ago_are_cold() -> None:
    heat = Heat()
    for number in range(MOST_HOT + 2):
        heat.heat(node(number), 0.0)
    heat.heat(node(0), 1.0)
    assert heat.cold(1.0) == [node(1), node(2)]


def test_what_is_counted_is_bounded() -> None:
    heat = Heat()
    for number in range(5 * MOST_WARM):
        heat.requested(node(number), 0.0, relayed=True)
    assert len(heat._warm) == MOST_WARM and HOT_REQUESTS > 1
