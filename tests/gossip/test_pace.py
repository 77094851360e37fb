"""When links that change are told: the first at once, the next ones ever more rarely, never later than the bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.pace import Pace


def tellings(changes: list[float], pace: Pace) -> list[float]:
    """When links are told that change at these times."""
    told: list[float] = []
    due: float | None = None
    for at in [*changes, float("inf")]:
        if due is not None and due <= at:
            pace.told(due)
            told.append(due)
            due = None
        if at < float("inf"):
            due = pace.ready_at(at) if due is None else min(due, pace.ready_at(at))
    return told


def test_what_changes_once_is_told_at_once() -> None:
    assert tellings([5.0, 100.0, 200.0], Pace(2.0, 8.0)) == [5.0, 100.0, 200.0]


def test_what_goes_on_changing_is_told_ever_more_rarely() -> None:
    every_tenth = [n / 10 for n in range(400)]
    told = tellings(every_tenth, Pace(2.0, 8.0))
    gaps = [b - a for a, b in itertools.pairwise(told)]
    assert told[0] == 0.0
    assert gaps[:4] == pytest.approx([2.0, 4.0, 8.0, 8.0], abs=0.11)


def test_after_a_calm_time_it_is_as_at_the_start() -> None:
    pace = Pace(2.0, 8.0)
    tellings([0.0, 0.5, 2.5, 6.5], pace)
    assert tellings([100.0, 100.5], pace) == [100.0, 102.0]


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=60))
def test_nothing_waits_longer_than_the_bound_and_all_is_told(changes: list[float]) -> None:
    changes.sort()
    told = tellings(changes, Pace(2.0, 8.0))
    for at in changes:
        assert any(at <= when <= at + 8.0 for when in told)
