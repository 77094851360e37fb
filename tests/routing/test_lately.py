"""A model whose servers are all gone is missing for now, and is told so; one that nobody had does not exist."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import ModelNotFound, NoPeerReachable, RequestError
from meshnode.model.view import View
from meshnode.routing.lately import KEPT_S, MOST, MOST_SERVERS, Lately
from tests.routing.build import ME, NOTHING, job, router, star


def test_a_model_whose_servers_are_gone_is_a_503_that_names_them_and_later_a_404() -> None:
    router_, model = router(), job().facts.model
    assert router_.consider(job(), star(2), NOTHING, Random(1), 0.0).refusal is None

    def refused(name: str, now: float) -> RequestError:
        error = router_.consider(job(name), View(ME), NOTHING, Random(1), now).refusal
        assert error is not None
        return error

    error = refused(model, 10.0)
    assert isinstance(error, NoPeerReachable) and error.status == 503
    assert error.message == f"No node offers '{model}' now; until lately it was offered by n1, n2."
    assert isinstance(refused("never", 10.0), ModelNotFound)
    assert isinstance(refused(model, 11.0 + KEPT_S), ModelNotFound)
    assert router_.consider(job(), star(2), NOTHING, Random(1), 20.0 + KEPT_S).refusal is None
    assert isinstance(refused(model, 30.0 + KEPT_S), NoPeerReachable)


@given(st.lists(st.tuples(st.integers(0, 3 * MOST), st.integers(0, 40)), max_size=50))
def test_what_is_kept_is_bounded(went: list[tuple[int, int]]) -> None:
    lately = Lately()
    for model in range(MOST):
        lately.went(f"m{model}", ["n"], 0.0)
    for model, many in went:
        lately.went(f"m{model}", [f"n{number}" for number in range(many)], 1.0)
        assert len(lately.servers(f"m{model}", 1.0)) == min(many, MOST_SERVERS)
    assert len(lately) <= MOST


@pytest.mark.parametrize(("asked", "known"), [("m:latest", True), ("m", True), ("m:other", False)])
def test_an_implied_tag_is_the_same_model(asked: str, known: bool) -> None:
    lately = Lately()
    lately.went("m", ["n"], 0.0)
    assert bool(lately.servers(asked, 1.0)) is known
