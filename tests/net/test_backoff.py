from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.net import Backoff


@given(seed=st.integers(), failures=st.integers(1, 200))
def test_waits_stay_within_their_bounds(seed: int, failures: int) -> None:
    backoff = Backoff(MeshSection(), random.Random(seed))
    for number in range(1, failures + 1):
        most = min(60.0, 0.5 * 2.0 ** min(number, 32))
        assert 0.5 <= backoff.next_s() <= most
    backoff.succeeded()
    assert 0.5 <= backoff.next_s() <= 1.0


def test_two_nodes_do_not_come_back_together() -> None:
    one, two = (Backoff(MeshSection(), random.Random(seed)) for seed in (1, 2))
    assert [one.next_s() for _ in range(3)] != [two.next_s() for _ in range(3)]


def test_equal_bounds_are_a_constant_wait() -> None:
    backoff = Backoff(MeshSection(redial_min_s=2.0, redial_max_s=1.0), random.Random(1))
    assert [backoff.next_s() for _ in range(3)] == [2.0, 2.0, 2.0]
