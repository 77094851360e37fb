"""Aliases: tiers in order that spill when busy, limits that only narrow, rules that a request cannot loosen."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import msgspec
import pytest

from meshnode.config.aliases import Alias
from meshnode.errors import NoEligibleNode, NoPeerReachable
from meshnode.model.job import Demands, Job, Label
from meshnode.model.view import View
from meshnode.routing import Plan, Router
from meshnode.slots import Load
from tests.routing.build import NOTHING, SECTION, job, node, offer, router, star


def aliased(**aliases: Any) -> Router:
    made = {name: msgspec.convert(fields, Alias) for name, fields in aliases.items()}
    return router(dataclasses.replace(SECTION, aliases=made))


def consider(made: Router, view: View, model: str = "coder", **more: Any) -> Plan:
    asked: Job = dataclasses.replace(job(model), **more)
    return made.consider(asked, view, NOTHING, Random(1), 0.0)


def chosen(plan: Plan) -> list[tuple[int, str]]:
    return [(attempt.node[1], attempt.model) for attempt in plan.attempts]


BIG_SMALL = star(2, {1: {"models": (offer("big", quant="Q4_K_M"),)}, 2: {"models": (offer("small", quant="Q8_0"),)}})
TWO_TIERS = {"tiers": [["big"], ["small"]]}


def test_the_first_tier_goes_first_and_the_next_is_there_if_it_fails() -> None:
    plan = consider(aliased(coder=TWO_TIERS), BIG_SMALL)
    assert chosen(plan) == [(1, "big"), (2, "small")]
    assert plan.tier == 1


def test_a_tier_spills_while_everything_in_it_is_busy() -> None:
    made = aliased(coder={**TWO_TIERS, "spill_after_s": 3})
    made.reported(node(1), "big", Load(0, 1, 1, 2.0), 0.0)
    assert chosen(consider(made, BIG_SMALL))[0] == (1, "big")
    made.reported(node(1), "big", Load(0, 1, 1, 20.0), 0.0)
    plan = consider(made, BIG_SMALL)
    assert chosen(plan) == [(2, "small"), (1, "big")]
    assert plan.reason.endswith("of the second tier of 'coder'")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ([{"model": "big", "min_quant": "q5"}], [(2, "small")]),
        ([{"model": "big", "min_context": 9000}], [(2, "small")]),
        (["big@n2"], [(2, "small")]),
        ([{"model": "big", "node": "n1"}], [(1, "big"), (2, "small")]),
    ],
)
def test_an_entry_narrows_who_serves_it(tier: list[Any], expected: list[tuple[int, str]]) -> None:
    assert chosen(consider(aliased(coder={"tiers": [tier, ["small"]]}), BIG_SMALL)) == expected


def test_a_pin_and_a_quantisation_may_stand_behind_an_alias() -> None:
    made = aliased(coder=TWO_TIERS)
    assert chosen(consider(made, BIG_SMALL, "coder@n2")) == [(2, "small")]
    assert chosen(consider(made, BIG_SMALL, "coder:q5")) == [(2, "small")]


def test_an_alias_goes_before_a_model_of_its_name() -> None:
    view = star(2, {1: {"models": (offer("coder"),)}, 2: {"models": (offer("small"),)}})
    assert chosen(consider(aliased(coder={"tiers": [["small"]]}), view)) == [(2, "small")]


@pytest.mark.parametrize("model", ["coder", "coder@n1", "coder:q4", "coder:q4@n1"])
def test_the_stricter_of_alias_and_request_wins(model: str) -> None:
    made = aliased(coder={**TWO_TIERS, "label": "sensitive", "max_price": 1.0})
    held = made.constrain(dataclasses.replace(job(model), label=Label.PUBLIC, demands=Demands(most_price_micro=5)))
    assert (held.label, held.demands) == (Label.SENSITIVE, Demands(most_price_micro=5))
    looser = aliased(coder={**TWO_TIERS, "label": "public"})
    assert looser.constrain(dataclasses.replace(job(model), label=Label.SENSITIVE)).label is Label.SENSITIVE


def test_nobody_who_may_is_said_and_nobody_else_is_taken() -> None:
    plan = consider(aliased(coder={**TWO_TIERS, "label": "sensitive"}), BIG_SMALL)
    assert isinstance(plan.refusal, NoEligibleNode)
    assert "attested" in plan.refusal.message
    assert plan.attempts == plan.others == ()


def test_nothing_behind_an_alias_is_told_by_its_models() -> None:
    plan = consider(aliased(coder={"tiers": [["gone"]]}), BIG_SMALL)
    assert isinstance(plan.refusal, NoPeerReachable)
    assert "gone" in plan.refusal.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"tiers": []},
        {"tiers": [[]]},
        {"tiers": [["a"]], "lable": "public"},
        {"tiers": [[{"model": "a", "min_quant": "x"}]]},
    ],
)
def test_what_is_misspelt_is_refused_where_it_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Alias)
