"""A commercial API is asked last, for what may leave, within the day's budget; and never for what is sensitive."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.cloud import CloudModel, CloudProvider, CloudSection
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job, Label
from meshnode.routing.fallback import MICRO, Fallback, Spent

LARGE = CloudModel("large", input_price=3.0, output_price=15.0, model="large-2026", context=1000)
SECOND = CloudModel("large", input_price=1.0, output_price=1.0)


def section(**changes: Any) -> CloudSection:
    providers = (
        CloudProvider("first", "https://one.example", (LARGE,)),
        CloudProvider("second", "https://two.example", (SECOND,)),
    )
    return dataclasses.replace(CloudSection(providers, label="internal", budget=1.0), **changes)


def job(label: Label = Label.INTERNAL, model: str = "large", **facts: Any) -> Job:
    known = Facts(model, **{"prompt_tokens": 100, "max_tokens": 50, **facts})
    return Job("j", "/v1/chat/completions", b"", known, NodeId(bytes(32)), 0.0, label=label)


def test_providers_come_in_the_order_they_are_written_down() -> None:
    chosen, excluded = Fallback(section()).choose(job(), 1)
    assert [(choice.provider, choice.model) for choice in chosen] == [("first", "large-2026"), ("second", "large")]
    assert not excluded


def test_what_it_may_cost_is_the_prompt_and_the_longest_answer() -> None:
    assert Fallback(section()).choose(job(), 1)[0][0].most_micro == 100 * 3 + 50 * 15
    unlimited = Fallback(section(usual_tokens=10)).choose(job(max_tokens=0), 1)[0][0]
    assert unlimited.most_micro == 100 * 3 + 10 * 15


@pytest.mark.parametrize(
    ("allowed", "label", "goes"),
    [
        ("public", Label.PUBLIC, True),
        ("public", Label.INTERNAL, False),
        ("internal", Label.INTERNAL, True),
        ("internal", Label.SENSITIVE, False),
    ],
)
def test_only_what_its_label_lets_out_goes_out(allowed: str, label: Label, goes: bool) -> None:
    chosen, excluded = Fallback(section(label=allowed)).choose(job(label), 1)
    assert bool(chosen) is goes
    assert goes or all(label.value in why for why in excluded)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"needs": frozenset({"chat", "rerank"})}, "rerank"),
        ({"prompt_tokens": 2000}, "takes 1000 tokens"),
        ({"prompt_tokens": 900, "max_tokens": 900_000}, "budget"),
    ],
)
def test_each_exclusion_says_why(facts: dict[str, Any], why: str) -> None:
    _, excluded = Fallback(section()).choose(job(**facts), 1)
    assert excluded[0].startswith("first") and why in excluded[0]


def test_names_are_exact_and_a_pinned_node_is_not_a_provider() -> None:
    fallback = Fallback(section())
    assert fallback.choose(job(model="larg"), 1) == ([], [])
    assert fallback.choose(job(model="large@studio"), 1) == ([], [])


def test_without_a_budget_nobody_is_asked() -> None:
    chosen, excluded = Fallback(dataclasses.replace(section(), budget=0.0)).choose(job(), 1)
    assert not chosen and all("budget" in why for why in excluded)


def test_a_day_is_a_purse_of_its_own_and_yesterdays_is_kept_over_a_restart() -> None:
    fallback = Fallback(section(budget=0.001), Spent(day=7, micro=999))
    assert not fallback.choose(job(), 7)[0]
    assert fallback.choose(job(max_tokens=1, prompt_tokens=1), 8)[0]


def test_what_nobody_counted_is_taken_at_its_most() -> None:
    fallback = Fallback(section())
    choice = fallback.choose(job(), 1)[0][0]
    assert fallback.reserve(choice, 1)
    assert fallback.settle(choice, None, None, 1) == Spent(1, choice.most_micro)
    assert fallback.reserve(choice, 1)
    assert fallback.settle(choice, 10, 2, 1).micro == choice.most_micro + 10 * 3 + 2 * 15
    assert fallback.state(1)["left"] == 1.0 - fallback.spent.micro / MICRO


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 5000), st.integers(0, 1)), max_size=60))
def test_what_is_reserved_and_spent_never_passes_the_budget(steps: list[tuple[int, bool, int, int]]) -> None:
    fallback = Fallback(section(budget=0.05))
    day, running = 0, []
    for later, ends, tokens, answer in steps:
        day += later
        if ends and running:
            choice = running.pop()
            before = fallback.spent
            after = fallback.settle(choice, tokens if answer else None, 0, day)
            assert after.micro - (before.micro if before.day == day else 0) <= choice.most_micro or answer
        for choice in fallback.choose(job(prompt_tokens=tokens), day)[0]:
            if fallback.reserve(choice, day):
                running.append(choice)
        reserved = sum(choice.most_micro for choice in running)
        assert reserved <= 0.05 * MICRO
