"""An engine that fails everybody is left alone for a while, ever longer, until it answers one request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.slots.ailing import FAILURES, FIRST_S, MOST_S, Ailing


def ailing(at: float = 0.0) -> Ailing:
    made = Ailing()
    for _ in range(FAILURES):
        made.failed(at)
    return made


def test_one_failure_less_changes_nothing() -> None:
    made = Ailing()
    for _ in range(FAILURES - 1):
        made.failed(0.0)
    assert made.wait_s(0.0) == 0.0


def test_failures_in_a_row_have_it_left_alone() -> None:
    made = ailing()
    assert [made.wait_s(now) for now in (0.0, 1.5, FIRST_S, 9.0)] == [FIRST_S, FIRST_S - 1.5, 0.0, 0.0]


def test_those_under_way_when_it_broke_do_not_lengthen_it() -> None:
    made = ailing()
    for _ in range(20):
        made.failed(1.0)
    assert made.wait_s(1.0) == FIRST_S - 1.0


def test_the_next_that_fails_has_it_left_alone_for_twice_as_long() -> None:
    made, now, rests = ailing(), 0.0, []
    for _ in range(7):
        now += made.wait_s(now)
        made.failed(now)
        rests.append(made.wait_s(now))
    assert rests == [4.0, 8.0, 16.0, MOST_S, MOST_S, MOST_S, MOST_S]


def test_an_answer_to_a_request_sent_since_then_ends_it() -> None:
    made = ailing(5.0)
    made.succeeded(4.0)
    assert made.wait_s(5.0) == FIRST_S
    made.succeeded(5.5)
    assert made.wait_s(5.5) == 0.0
    made.failed(6.0)
    assert made.wait_s(6.0) == 0.0


def test_answers_between_failures_keep_it_well() -> None:
    made = Ailing()
    for now in range(100):
        made.failed(float(now))
        made.succeeded(float(now))
    assert made.wait_s(100.0) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), max_size=60))
def test_a_wait_is_never_long_and_always_ends(events: list[tuple[bool, float]]) -> None:
    made, now = Ailing(), 0.0
    for ok, after_s in events:
        now += after_s
        if ok:
            made.succeeded(now)
        else:
            made.failed(now)
        assert 0.0 <= made.wait_s(now) <= MOST_S
    assert made.wait_s(now + MOST_S) == 0.0


def test_a_mute_engine_is_left_alone_at_once_and_until_it_speaks() -> None:
    made = Ailing()
    made.mute(10.0)
    made.mute(11.0)
    assert made.wait_s(11.0) == FIRST_S - 1.0
    made.mute(13.0)
    assert made.wait_s(13.0) == 2 * FIRST_S
    made.spoke()
    assert made.wait_s(13.0) == 0.0
    made.mute(14.0)
    assert made.wait_s(14.0) == FIRST_S


def test_a_first_word_makes_no_engine_well_that_fails() -> None:
    made = ailing()
    made.mute(1.0)
    made.spoke()
    assert made.wait_s(1.0) == FIRST_S - 1.0
