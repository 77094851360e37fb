"""Waits that grow, and storms that are spread."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.backoff import FLOOR_S, MOST_ENDS, STORM_S, Storm, wait_s


@given(st.integers(0, 2**32), st.integers(0, 10_000), st.floats(0.0, 60.0), st.floats(0.0, 3600.0))
def test_waits_stay_between_the_least_and_a_ceiling_that_doubles(
    seed: int, failures: int, least_s: float, most_s: float
) -> None:
    least = max(least_s, FLOOR_S)
    waited = wait_s(random.Random(seed), failures, least_s, most_s)
    assert least <= waited <= max(least, min(most_s, least * 2.0 ** min(failures, 30)))


@given(st.integers(0, 2**32), st.integers(1, 2000))
def test_the_more_links_end_together_the_wider_they_are_spread(seed: int, ends: int) -> None:
    storm, rng = Storm(16, 0.5, 60.0), random.Random(seed)
    for _ in range(ends):
        storm.ended(100.0)
    assert 0.0 <= storm.delay_s(rng) <= min(60.0, max(0.5, ends / 16))


def test_links_that_ended_long_ago_are_no_storm_and_the_count_is_bounded() -> None:
    storm = Storm(1, 0.5, 1e9)
    for _ in range(MOST_ENDS * 2):
        storm.ended(0.0)
    assert len(storm._ends) == MOST_ENDS
    storm.ended(STORM_S + 1.0)
    assert storm.delay_s(random.Random(1)) <= 1.0
