"""An engine is mute when a stream's first token is overdue, by what it usually takes and what it had in hand."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.slots.mute import Mute


def mute() -> Mute:
    return Mute(4.0, 1.2)


def test_a_first_token_is_overdue_after_a_few_times_the_usual_and_never_within_moments() -> None:
    assert mute().asked(1, 2.0, 100.0, streams=True) == 108.0
    assert mute().asked(1, 0.01, 100.0, streams=True) == 101.2


def test_it_is_told_once_of_each() -> None:
    made = mute()
    made.asked(1, 0.1, 0.0, streams=True)
    made.asked(2, 0.1, 0.5, streams=True)
    assert not made.look(1.1)
    assert made.look(1.2) and not made.look(1.2)
    assert made.due == pytest.approx(1.7) and made.look(1.7)
    assert made.due == inf


def test_a_short_prompt_waits_for_a_long_one_before_it() -> None:
    made = mute()
    made.asked(1, 30.0, 0.0, streams=False)
    made.asked(2, 5.0, 0.0, streams=True)
    assert made.asked(3, 0.1, 1.0, streams=True) == pytest.approx(1.0 + 4 * 30.1)
    made.left(1)
    assert made.asked(4, 0.1, 2.0, streams=True) == pytest.approx(2.0 + 4 * 5.1)


def test_a_model_that_is_loaded_first_may_take_any_time_and_so_may_who_comes_behind() -> None:
    made = mute()
    assert made.asked(1, None, 0.0, streams=True) == inf
    assert made.asked(2, 0.1, 0.0, streams=True) == inf
    made.said(1)
    made.said(2)
    assert made.asked(3, 0.1, 9.0, streams=True) == pytest.approx(10.2)


def test_an_answer_in_one_piece_says_nothing_of_the_engine() -> None:
    assert mute().asked(1, 0.1, 0.0, streams=False) == inf


def test_one_that_was_overtaken_is_no_silence_of_the_engine() -> None:
    made = mute()
    made.asked(1, 0.1, 0.0, streams=True)
    made.asked(2, 0.1, 0.5, streams=True)
    made.said(2)
    assert not made.look(100.0)


def test_one_that_answers_says_nothing_of_those_that_came_after_it() -> None:
    made = mute()
    made.asked(1, 0.1, 0.0, streams=True)
    made.asked(2, 0.1, 0.5, streams=True)
    made.said(1)
    assert made.look(1.7)


@given(st.lists(st.tuples(st.none() | st.floats(0.0, 100.0), st.booleans()), min_size=1, max_size=20))
def test_more_in_hand_never_makes_it_mute_sooner(asked: list[tuple[float | None, bool]]) -> None:
    made = mute()
    for key, (work_s, streams) in enumerate(asked):
        alone = mute().asked(key, work_s, 0.0, streams=streams)
        assert made.asked(key, work_s, 0.0, streams=streams) >= alone


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes and goes: nothing is kept of what is over, and what is due is over once it was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.made, self.now, self.held, self.keys = mute(), 0.0, set[int](), 0

    @rule(work_s=st.none() | st.floats(0.0, 10.0), streams=st.booleans())
    def asked(self, work_s: float | None, streams: bool) -> None:
        self.keys += 1
        self.held.add(self.keys)
        assert self.made.asked(self.keys, work_s, self.now, streams=streams) >= self.now + 1.2

    @rule(key=st.integers(1, 20), answers=st.booleans())
    def over(self, key: int, answers: bool) -> None:
        if key in self.held:
            self.held.discard(key)
            (self.made.said if answers else self.made.left)(key)

    @rule(later_s=st.floats(0.0, 20.0))
    def look(self, later_s: float) -> None:
        self.now += later_s
        due = self.made.due
        assert self.made.look(self.now) == (due <= self.now)
        assert self.made.due > self.now

    @invariant()
    def keeps_what_is_held(self) -> None:
        assert len(self.made) == len(self.held)
        assert self.held or self.made.due == inf


TestAnyOrder = AnyOrder.TestCase
