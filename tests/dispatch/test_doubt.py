"""How long a server may say nothing: by its own answers, by its word, by those of others, and never longer for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.dispatch import DispatchSection
from meshnode.dispatch.doubt import DoubtAfter, Known, Size, answer_s, doubt_after
from meshnode.model.advert import ModelOffer
from meshnode.model.job import Facts
from meshnode.routing import Terms
from meshnode.routing.measure import Record

SECTION = DispatchSection(hang_s=10.0, hang_factor=4, hang_known_s=1.2)
STREAM = Size.of(Facts("m", stream=True, prompt_tokens=750, max_tokens=160))
WHOLE = Size.of(Facts("m", stream=False, prompt_tokens=750, max_tokens=160))
"""One unit of prompt, and ten more of an answer that comes in one piece."""


def terms(*, prefill_s: float = 0.5, decode_s: float = 3.0, queue_s: float = 0.0, cold_s: float = 0.0) -> Terms:
    return Terms(0.0, queue_s, cold_s, prefill_s, decode_s, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def after(size: Size, found: list[Known], left_s: float = 1000.0, predicted: Terms | None = None) -> DoubtAfter:
    return doubt_after(size, predicted or terms(), answer_s(size, found[0], found[1:]), left_s, SECTION)


def known(own: Record | None = None, offer: ModelOffer | None = None, *others: Record | ModelOffer) -> list[Known]:
    """Of the server, and of others."""
    found = (Known(one, None) if isinstance(one, Record) else Known(None, one) for one in others)
    return [Known(own, offer), *found]


def answered(unit_s: float | None = None, whole_s: float | None = None, token_s: float | None = None) -> Record:
    return Record(answered_unit_s=unit_s, whole_unit_s=whole_s, per_token_s=token_s)


def test_who_was_measured_is_doubted_after_a_few_times_what_it_takes() -> None:
    assert after(STREAM, known(answered(2.0))).idle_s == 8.0
    assert after(WHOLE, known(answered(whole_s=0.2))).idle_s == pytest.approx(4 * 0.2 * 11)


def test_nobody_is_doubted_within_moments() -> None:
    assert after(STREAM, known(answered(0.01))).idle_s == SECTION.hang_known_s


def test_answers_in_one_piece_say_nothing_of_a_streams_first_token() -> None:
    assert after(STREAM, known(answered(whole_s=0.2))) == DoubtAfter(10.0, 10.0)


def test_streams_tell_how_long_an_answer_in_one_piece_takes_once_their_pace_is_known() -> None:
    assert after(WHOLE, known(answered(0.5, token_s=0.01))).idle_s == pytest.approx(4 * (0.5 + 1.6))
    assert after(WHOLE, known(answered(0.5))) == DoubtAfter(4 * 3.5, 4 * 3.5)


def test_who_was_never_measured_has_twice_what_its_advert_says() -> None:
    offer = ModelOffer("m", prefill_ms=250, decode_us=5000)
    assert after(STREAM, known(None, offer)).idle_s == pytest.approx(4 * 2 * 0.25)
    assert after(WHOLE, known(None, offer)).idle_s == pytest.approx(4 * 2 * (0.25 + 0.8))


def test_who_says_nothing_of_itself_has_twice_what_others_took() -> None:
    others = answered(0.1), answered(0.5), answered(40.0), Record()
    assert after(STREAM, known(None, ModelOffer("m"), *others)).idle_s == pytest.approx(4 * 2 * 0.5)


def test_who_has_just_started_goes_by_what_others_say_of_themselves() -> None:
    told = ModelOffer("m", prefill_ms=250), ModelOffer("m"), Record()
    assert after(STREAM, known(None, None, *told)).idle_s == pytest.approx(4 * 2 * 0.25)


def test_own_measurement_goes_before_its_word_and_its_word_before_others() -> None:
    offer = ModelOffer("m", prefill_ms=500)
    assert after(STREAM, known(answered(1.0), offer, answered(3.0))).idle_s == 4.0
    assert after(STREAM, known(None, offer, answered(3.0))).idle_s == 4.0


def test_a_wait_that_is_known_of_is_waited_for() -> None:
    waits = terms(queue_s=20.0, cold_s=30.0)
    assert after(STREAM, known(answered(0.1)), predicted=waits).idle_s == pytest.approx(20.0 + 4 * 30.1)


def test_a_client_with_less_time_has_another_asked_after_half_of_it_though_nothing_is_known() -> None:
    assert after(STREAM, known(), left_s=8.0) == DoubtAfter(4.0, 4.0)
    assert after(STREAM, known(), left_s=0.6) == DoubtAfter(10.0, 10.0), "it was never to be answered so soon"


times = st.none() | st.floats(0.001, 1000.0)


@given(
    st.sampled_from((STREAM, WHOLE)), st.builds(answered, times, times, times),
    st.builds(ModelOffer, st.just("m"), prefill_ms=st.integers(0, 10**6), decode_us=st.integers(0, 10**6)),
    st.lists(st.builds(answered, times, times, times), max_size=4), st.floats(0.1, 3600.0),
)  # fmt: skip
def test_what_is_said_and_measured_only_ever_shortens_it(
    size: Size, own: Record, offer: ModelOffer, others: list[Record], left_s: float
) -> None:
    unknown = after(size, known(), left_s)
    found = after(size, known(own, offer, *others), left_s)
    assert found.busy_s == unknown.busy_s
    assert min(SECTION.hang_known_s, unknown.idle_s) <= found.idle_s <= unknown.idle_s
