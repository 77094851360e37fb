"""Evidence grows old by whichever clock has seen more time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.trust.ageing import LEAP_S, Ageing

STEPS = st.lists(st.tuples(st.floats(0, 1e4), st.floats(-1e5, 1e5)), max_size=30)


@given(STEPS)
def test_it_never_goes_back_and_no_clock_sees_more_than_it_but_for_slewing(steps: list[tuple[float, float]]) -> None:
    clock, monotonic, wall, before = Ageing(7.0, 1e6), 7.0, 1e6, 0.0
    for passed, by_wall in steps:
        monotonic, wall = monotonic + passed, wall + by_wall
        age = clock.read(monotonic, wall)
        assert age - before >= max(passed, by_wall - LEAP_S) - 1e-6
        assert clock.leapt is (age - before > passed + LEAP_S / 2)
        before = age


def test_a_nights_sleep_counts_and_a_clock_that_is_set_back_does_not() -> None:
    clock = Ageing(100.0, 5000.0)
    assert clock.read(110.0, 5010.0) == pytest.approx(10.0)
    assert clock.read(111.0, 5010.0 + 8 * 3600) == pytest.approx(10.0 + 8 * 3600)
    assert clock.leapt
    assert clock.read(121.0, 0.0) == pytest.approx(20.0 + 8 * 3600)
    assert not clock.leapt
