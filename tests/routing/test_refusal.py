"""Errors for jobs that nobody may serve: the right kind, and words that help."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest

from meshnode.errors import (
    BadRequest,
    ContextExceeded,
    EngineDown,
    ModelNotFound,
    NoEligibleNode,
    NoPeerReachable,
    RequestError,
)
from meshnode.model.job import Job, Label
from meshnode.model.view import View
from tests.routing.build import ME, NOTHING, job, mesh, node, offer, router, star


def refused(asked: Job, view: View) -> RequestError:
    with pytest.raises(RequestError) as caught:
        router().plan(asked, view, NOTHING, Random(1), 0.0)
    return caught.value


def text(asked: Job, view: View, kind: type[RequestError]) -> str:
    error = refused(asked, view)
    assert type(error) is kind
    return error.message


def test_a_near_miss_gets_a_hint() -> None:
    assert text(job("lama"), star(1), ModelNotFound) == (
        "The model 'lama' does not exist in this mesh. Did you mean 'llama'?"
    )


def test_a_far_miss_gets_a_list() -> None:
    view = star(1, {1: {"models": tuple(offer(name) for name in "abcdefgh")}})
    assert text(job("zzzz"), view, ModelNotFound).endswith("It offers: a, b, c, d, e, and 3 more.")


def test_an_empty_mesh_says_so() -> None:
    assert "No node offers any model now." in text(job(), View(ME), ModelNotFound)


def test_a_pin_on_an_unknown_node_names_a_near_one() -> None:
    assert text(job("llama@n11"), star(1), ModelNotFound) == ("There is no node 'n11' in this mesh. Did you mean 'n1'?")


def test_a_pin_on_a_node_without_the_model_says_who_has_it() -> None:
    view = star(3, {2: {"models": (offer("qwen"),)}})
    assert text(job("llama@n2"), view, ModelNotFound) == (
        "The node 'n2' does not offer the model 'llama'; offered by: n1, n3."
    )


def test_a_prompt_longer_than_every_context_says_how_long_it_may_be() -> None:
    view = star(2, {1: {"models": (offer(context=2048),)}, 2: {"models": (offer(context=4096),)}})
    error = refused(job(prompt_tokens=5000), view)
    assert type(error) is ContextExceeded
    assert "maximum context length is 4096 tokens" in error.message
    assert "about 5000 tokens" in error.message
    assert error.param == "messages"


def test_a_pin_counts_only_the_pinned_context() -> None:
    view = star(2, {1: {"models": (offer(context=2048),)}})
    assert "2048" in text(job("llama@n1", prompt_tokens=5000), view, ContextExceeded)


def test_a_feature_that_nobody_has_is_named() -> None:
    needs = frozenset({"chat", "vision"})
    assert text(job(needs=needs), star(2), BadRequest) == "The model 'llama' is offered without: vision."


def test_a_context_counts_only_where_the_features_are() -> None:
    able = {"models": (offer(context=100, features=("chat", "tools")),)}
    asked = job(prompt_tokens=500, needs=frozenset({"chat", "tools"}))
    assert "is 100 tokens" in text(asked, star(2, {1: able}), ContextExceeded)


def test_features_that_are_never_together_are_all_named() -> None:
    view = star(
        2, {1: {"models": (offer(features=("chat", "tools")),)}, 2: {"models": (offer(features=("chat", "vision")),)}}
    )
    asked = job(needs=frozenset({"tools", "vision"}))
    assert text(asked, view, BadRequest).endswith("tools, vision.")


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (star(1, {1: {"draining": True}}), "n1 is shutting down"),
        (dataclasses.replace(star(1), links={}), "n1 cannot be reached over any path"),
        (mesh([(n, n + 1, 5) for n in range(6)], changes={n: {"models": ()} for n in range(6)}), "n6 is 6 hops away"),
    ],
)
def test_a_server_that_cannot_be_had_now_is_named_with_its_reason(view: View, why: str) -> None:
    assert why in text(job(), view, NoPeerReachable)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (star(1, {1: {"models": (offer(down=True),)}}), "n1 has it, but its engine is down"),
        (mesh([], 1), "n0 has no engine ready for it"),
        (
            star(2, {1: {"models": (offer(down=True),)}, 2: {"owner_only": True, "owner": "ann"}}),
            "n2 serves nobody but",
        ),
    ],
)
def test_where_engines_are_down_the_error_says_that(view: View, why: str) -> None:
    found = text(job(), view, EngineDown)
    assert why in found and found.endswith("Start it there, or ask again later.")


def test_one_that_cannot_be_reached_beside_a_down_engine_makes_it_unreachable() -> None:
    found = text(job(), star(2, {1: {"models": (offer(down=True),)}, 2: {"draining": True}}), NoPeerReachable)
    assert "n1 has it, but its engine is down" in found and "n2 is shutting down" in found


def test_a_sensitive_request_is_refused_aloud() -> None:
    asked = dataclasses.replace(job(), label=Label.SENSITIVE)
    assert "n1 is neither attested nor pinned here" in text(asked, star(1), NoEligibleNode)


def test_a_passing_reason_wins_over_a_lasting_one() -> None:
    changes: dict[int, dict[str, Any]] = {1: {"models": (offer(context=10),)}, 2: {"draining": True}}
    found = text(job(prompt_tokens=100), star(2, changes), NoPeerReachable)
    assert "n2 is shutting down" in found
    assert "n1" not in found


def test_a_long_list_of_nodes_is_cut() -> None:
    view = dataclasses.replace(star(20), links={})
    assert text(job(), view, NoPeerReachable).endswith("and 15 more.")


def test_considering_raises_nothing() -> None:
    plan = router().consider(job("lama"), star(1), NOTHING, Random(1), 0.0)
    assert type(plan.refusal) is ModelNotFound
    assert plan.attempts == ()
    assert plan.reason == plan.refusal.message
    assert node(1) not in {exclusion.node for exclusion in plan.exclusions}
