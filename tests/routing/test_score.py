"""Scores: each term moves the value the way it should, and a peer's word can only make it worse."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.job import Facts
from meshnode.routing import Score, Tree
from meshnode.routing.measure import Measurements, Record
from meshnode.routing.offers import Candidate, Offers
from meshnode.routing.score import named, rate, size_of
from meshnode.slots import Load
from tests.routing.build import SECTION, node, offer, star

FACTS = Facts("llama", prompt_tokens=750)


def candidate(price: int = 0, **more: object) -> Candidate:
    view = star(1, {1: {"models": (offer(**more),), "price_micro_per_mtok": price}})
    return Offers(view, Tree(view, 0.0), SECTION).by_name["llama"][0]


def scored(one: Candidate, record: Record | None = None, now: float = 0.0, facts: Facts = FACTS) -> Score:
    return named(rate(one, record, size_of(facts, SECTION), now), one)


def measured(now: float, first_s: float = 0.5, token_s: float = 0.02) -> tuple[Measurements, Record]:
    measurements = Measurements(SECTION)
    flight = measurements.started(node(1), "llama", FACTS.prompt_tokens, now - 100 * token_s - first_s)
    measurements.first_token(flight, now - 100 * token_s)
    measurements.finished(flight, 101, now)
    return measurements, measurements.of("llama")[node(1)]


def test_the_value_is_the_formula() -> None:
    measurements, record = measured(10.0)
    measurements.started(node(1), "llama", 0, 10.0)
    found = scored(candidate(price=5_000_000, slots=2), record, 10.0)
    terms = found.terms
    seconds = terms.path_s + terms.queue_s + terms.cold_s + terms.prefill_s + terms.decode_s
    assert abs(found.predicted_s - seconds * terms.tries) < 1e-9
    assert abs(found.value - found.predicted_s * terms.outstanding * terms.cost * terms.power * terms.trust) < 1e-9
    assert (terms.outstanding, terms.cost, terms.power, terms.trust, terms.preference) == (1.5, 1.5, 1.0, 1.1, 1.0)


def test_what_was_measured_is_what_is_predicted() -> None:
    _, record = measured(10.0, first_s=0.5, token_s=0.02)
    found = scored(candidate(), record, 10.0, Facts("llama", prompt_tokens=750, max_tokens=100))
    assert abs(found.predicted_s - (0.5 + 100 * 0.02)) < 1e-9


def test_a_server_never_measured_counts_as_twice_the_guess() -> None:
    found = scored(candidate())
    assert found.terms.prefill_s == 2 * SECTION.guess_first_token_s
    assert found.terms.decode_s == 2 * SECTION.guess_token_s * 256


def test_a_server_never_measured_counts_as_half_as_quick_as_it_says() -> None:
    found = scored(candidate(prefill_ms=300, decode_us=10_000))
    assert abs(found.terms.prefill_s - 2 * 0.3) < 1e-9
    assert abs(found.terms.decode_s - 2 * 0.01 * 256) < 1e-9


def test_a_bold_claim_is_worth_no_more_than_a_tenth_of_what_is_usual() -> None:
    found = scored(candidate(prefill_ms=1, decode_us=1))
    assert abs(found.terms.prefill_s - 2 * SECTION.guess_first_token_s / 10) < 1e-9
    assert abs(found.terms.decode_s - 2 * SECTION.guess_token_s / 10 * 256) < 1e-9


def test_what_was_measured_counts_whatever_a_server_says_of_its_speed() -> None:
    _, record = measured(10.0)
    assert scored(candidate(prefill_ms=1, decode_us=1), record, 10.0) == scored(candidate(), record, 10.0)


def test_a_model_that_must_load_costs_its_loading() -> None:
    extra_s = scored(candidate(loaded=False)).predicted_s - scored(candidate()).predicted_s
    assert abs(extra_s - SECTION.cold_start_s) < 1e-9


def test_embeddings_have_no_tokens_to_wait_for() -> None:
    assert scored(candidate(), facts=Facts("llama", needs=frozenset({"embeddings"}))).terms.decode_s == 0


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 8), st.integers(0, 100), st.floats(0, 1000))
def test_a_reported_load_never_lowers_a_score(free: int, queued: int, wait_s: float) -> None:
    measurements, record = measured(10.0)
    before = scored(candidate(), record, 10.0).value
    measurements.reported(node(1), "llama", Load(free, 1, queued, wait_s), 10.0)
    assert scored(candidate(), record, 10.0).value >= before


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["fail", "refuse", "start"]), min_size=1, max_size=30))
def test_a_failing_full_or_hanging_server_never_looks_better_than_before(what: list[str]) -> None:
    for measurements, record in (measured(10.0), bare(10.0)):
        before = scored(candidate(), record, 10.0).value
        for one in what:
            flight = measurements.started(node(1), "llama", 10, 10.0)
            if one == "fail":
                measurements.failed(flight, 10.0)
            elif one == "refuse":
                measurements.refused(flight, 3.0, 10.0)
        assert scored(candidate(), record, 10.0).value > before


def bare(now: float) -> tuple[Measurements, Record]:
    """A server that was asked once and never answered."""
    measurements = Measurements(SECTION)
    measurements.cancelled(measurements.started(node(1), "llama", 10, now), now)
    return measurements, measurements.of("llama")[node(1)]


def test_silence_counts_for_as_long_as_it_lasts() -> None:
    measurements, record = measured(10.0)
    measurements.started(node(1), "llama", 750, 10.0)
    assert scored(candidate(), record, 70.0).terms.path_s + scored(candidate(), record, 70.0).terms.prefill_s == 60.0
