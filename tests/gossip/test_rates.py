from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.rates import Bucket


@given(
    st.integers(1, 20),
    st.floats(0.01, 10.0),
    st.floats(-1000.0, 1e6),
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 5)), max_size=60),
)
def test_never_more_than_the_burst_and_what_time_refilled(
    burst: int, refill_s: float, start: float, asked: list[tuple[float, int]]
) -> None:
    bucket = Bucket(burst, refill_s)
    now, taken = start, 0
    for wait, count in asked:
        now += wait
        room = bucket.available(now)
        assert bucket.take(now, count) is (count <= room)
        taken += count if count <= room else 0
        assert taken <= burst + (now - start) / refill_s + 1e-3


def test_starts_full_whatever_the_clock_says_and_refills() -> None:
    bucket = Bucket(3, 2.0)
    assert [bucket.take(-50.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(-48.5) is False
    assert bucket.take(-48.0) is True
    assert bucket.available(1000.0) == 3


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = Bucket(1, 1.0)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)


@given(st.integers(1, 5), st.floats(0.0, 10.0), st.floats(0.0, 1e6))
def test_is_ready_when_it_says(burst: int, refill_s: float, now: float) -> None:
    bucket = Bucket(burst, refill_s)
    while refill_s and bucket.take(now):
        pass
    assert bucket.take(bucket.ready_at(now))
