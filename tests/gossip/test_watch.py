"""By which clock a neighbour is probed, and when nothing new is sent to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip.watch import Phase, Watch
from tests.gossip.world import node_id

SECTION = GossipSection()
FAR_S = SECTION.wan_round_trip_s


def watch(*trips_s: float) -> Watch:
    made = Watch(node_id(1), 0.0)
    made.trips.extend(trips_s)
    return made


def clock(of: Watch) -> tuple[float, float]:
    return of.period_s(SECTION), of.timeout_s(SECTION)


LAN = (SECTION.probe_s, SECTION.probe_timeout_s)
WAN = (SECTION.wan_probe_s, SECTION.wan_probe_timeout_s)


def test_who_was_never_measured_is_probed_as_on_a_lan() -> None:
    assert clock(watch()) == LAN


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=20))
def test_the_shortest_of_the_last_eight_trips_says_whether_it_is_far(trips_s: list[float]) -> None:
    assert clock(watch(*trips_s)) == (WAN if min(trips_s[-8:]) > FAR_S else LAN)


def test_one_stall_makes_no_wan_of_a_lan_and_eight_long_trips_do() -> None:
    assert clock(watch(0.001, 5.0)) == LAN
    assert clock(watch(0.001, *[2 * FAR_S] * 7)) == LAN
    assert clock(watch(0.001, *[2 * FAR_S] * 8)) == WAN


@pytest.mark.parametrize("phase", Phase)
def test_only_who_is_suspected_or_dead_is_doubted(phase: Phase) -> None:
    made = watch()
    made.phase = phase
    assert made.doubted is (phase in (Phase.SUSPECTED, Phase.DEAD))
