"""What a server says of its load adds to what is expected of it, and a broken word is not forgotten at once."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.routing.score import rate, size_of
from meshnode.routing.word import DOUBT_S, JUDGED_TOKENS, MOST_DOUBT_S, TOLD_FADES_S, Word
from meshnode.slots import Load
from tests.routing.build import NOTHING, SECTION, job, node, offer, router, star

UNITS = 0.5


def test_requests_of_others_are_what_it_has_besides_this_nodes() -> None:
    word = Word()
    word.told(Load(free=1, busy=3, queued=0, expected_wait_s=0.0), 1, 10.0)
    assert word.others(4, 10.0) == 2.0
    assert word.others(4, 10.0 + TOLD_FADES_S / 2) == 1.0
    assert word.others(4, 10.0 + TOLD_FADES_S) == 0.0


def test_what_ended_as_it_was_told_is_not_counted_twice() -> None:
    word = Word()
    word.told(Load(free=0, busy=4, queued=0, expected_wait_s=1.0), 1, 10.0)
    word.ended(10.01)
    assert word.others(4, 10.01) == pytest.approx(4.0, rel=0.01)
    word.told(Load(free=0, busy=4, queued=0, expected_wait_s=1.0), 1, 20.0)
    word.ended(21.0)
    assert word.others(4, 20.0) == 3.0


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.floats(0, 100))
def test_its_word_never_takes_requests_away(free: int, busy: int, queued: int, own: int, later_s: float) -> None:
    word = Word()
    word.told(Load(free, busy, queued, 0.0), own, 0.0)
    assert word.others(4, later_s) >= 0.0


def served(word: Word, first_s: float, now: float, tokens: int = 200) -> None:
    word.first_token(first_s, UNITS, tokens, now)


def test_who_gave_a_slot_at_once_and_let_wait_is_expected_to_do_so_again() -> None:
    word = Word()
    for _ in range(5):
        served(word, 0.3, 0.0)
    assert word.doubted_until == 0.0
    served(word, 9.0, 100.0)
    assert word.doubted_until == 100.0 + DOUBT_S
    assert 8.0 < word.broken_s < 9.0


@pytest.mark.parametrize(("first_s", "tokens"), [(1.0, 200), (2.2, 200), (60.0, JUDGED_TOKENS + 1)])
def test_a_little_later_than_usual_or_a_long_prompt_breaks_no_word(first_s: float, tokens: int) -> None:
    word = Word()
    for _ in range(5):
        served(word, 0.5, 0.0)
    served(word, first_s, 1.0, tokens)
    assert word.doubted_until == 0.0


def test_who_breaks_its_word_again_is_doubted_for_longer_up_to_a_most() -> None:
    word, now, spans = Word(), 0.0, []
    served(word, 0.3, now)
    for _ in range(6):
        served(word, 0.1, now)
        served(word, 30.0, now)
        spans.append(word.doubted_until - now)
        now = word.doubted_until
    assert spans == [60.0, 120.0, 240.0, 480.0, MOST_DOUBT_S, MOST_DOUBT_S]


def test_who_refuses_and_calls_itself_free_with_the_same_word_is_doubted() -> None:
    word = Word()
    word.told(Load(free=2, busy=2, queued=0, expected_wait_s=0.0), 1, 0.0)
    word.refused(1.0)
    assert word.doubted_until == 0.0, "it may have been free a second ago"
    word.told(Load(free=0, busy=4, queued=2, expected_wait_s=3.0), 1, 2.0)
    word.refused(2.0)
    assert word.doubted_until == 0.0
    word.told(Load(free=2, busy=2, queued=0, expected_wait_s=0.0), 1, 3.0)
    word.refused(3.0)
    assert word.doubted_until == 3.0 + DOUBT_S


def test_a_doubted_server_counts_as_full_whatever_it_tells() -> None:
    made = router()
    view = star(2, {1: {"models": (offer(slots=64),)}, 2: {"models": (offer(slots=64),)}})
    attempt = made.plan(job(), view, NOTHING, Random(1), 0.0).attempts[0]
    for at in range(5):
        flight = made.started(attempt, 200, float(at), at_once=True)
        made.first_token(flight, at + (0.2 if at < 4 else 30.0))
        made.finished(flight, 10, at + 40.0)
    record = made.known.measurements.of("llama")[attempt.node]
    made.reported(attempt.node, "llama", Load(64, 0, 0, 0.0), 90.0)
    candidate = next(one for one in made.known.offers(view)[1].by_name["llama"] if one.node == attempt.node)
    rating = rate(candidate, record, size_of(job().facts, SECTION), 90.0)
    assert rating[3] > 29.0
    assert rating[8] == 2.0


def test_slots_that_were_never_seen_in_use_are_not_believed() -> None:
    made = router()
    view = star(1, {1: {"models": (offer(slots=64),)}})
    (candidate,) = made.known.offers(view)[1].by_name["llama"]
    attempt = made.plan(job(), view, NOTHING, Random(1), 0.0).attempts[0]
    ask, flights = size_of(job().facts, SECTION), []

    def factor() -> float:
        return rate(candidate, made.known.measurements.of("llama")[node(1)], ask, 1.0)[8]

    for _ in range(4):
        flights.append(made.started(attempt, 200, 0.0))
    assert factor() == 2.0, "as if four slots were all"
    for flight in flights:
        made.first_token(flight, 0.5)
    assert factor() == 1.5, "four answered at once: eight are believed"
