"""The judge can fail a run: each promise broken is told, and each request counts unless a rule lets it off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.real.faults.answer import Answer
from tests.real.faults.judge import Attempt, Outcome, Span, broken, excuse, failover, judge
from tests.real.faults.plan import PREFILL_S, Ask, Fault, Plan

ASK = Ask(number=1, at_s=10.0, entry=0, model="red", stream=True, tokens=3, deadline_s=5.0)
PLAN = Plan(1, (("red",), ("red",), ("red", "blue"), ("blue",)), (), (ASK,))


def answer(tokens: int = 3, error: str = "", ends: int = 1, text: str | None = None, finish: str = "stop") -> Answer:
    said = ASK.text(tokens) if text is None else text
    return Answer(200, True, said, "" if error else finish, error, ends)


def outcome(said: Answer | None = None, how: str = "ended", ask: Ask = ASK, **changes: Any) -> Outcome:
    usual = Outcome(ask, answer() if said is None else said, 10.0, 10.5, 10.1, how, "n0 > n1")
    return replace(usual, **changes)


FAILED = outcome(answer(0, "peer_failed"), first_s=None)


def span(kind: str, node: int, began_s: float, ended_s: float, other: int = -1) -> Span:
    return Span(Fault(kind, began_s, ended_s - began_s, node, other), began_s, ended_s, ended_s)


def test_a_right_answer_breaks_nothing_and_counts() -> None:
    verdict = judge(PLAN, [outcome()], [])
    assert (verdict.broken, verdict.counted, verdict.missed, verdict.success) == ([], 1, [], 1.0)


def test_an_error_in_time_breaks_nothing_and_is_missed() -> None:
    verdict = judge(PLAN, [FAILED], [])
    assert (verdict.broken, verdict.counted, verdict.missed, verdict.success) == ([], 1, [FAILED], 0.0)


@pytest.mark.parametrize("outcomes", [[], [outcome(), outcome()]], ids=["lost", "doubled"])
def test_every_request_ends_once(outcomes: list[Outcome]) -> None:
    assert judge(PLAN, outcomes, []).broken


def test_a_request_is_begun_no_more_often_than_it_was_sent() -> None:
    twice = outcome(made=2)
    assert not judge(PLAN, [twice], [], {"r1": 2, "r2": 9}).broken
    assert judge(PLAN, [twice], [], {"r1": 3}).broken
    assert not judge(PLAN, [outcome(made=0)], [], {"r1": 3}).broken


@pytest.mark.parametrize(
    "said",
    [
        answer(2),
        answer(text="r1.0 r1.0 r1.1 r1.2 "),
        answer(text="r1.1 r1.0 "),
        answer(text="r2.0 "),
        answer(text="r1.0 r1.1 r1.2 r1.3 "),
        answer(0, "peer_failed", text="r2.0 "),
        answer(ends=2),
        answer(1, ends=0),
    ],
)
def test_what_is_not_the_answer_breaks_a_promise(said: Answer) -> None:
    assert list(broken(outcome(said), []))


def test_half_an_answer_and_an_error_break_none() -> None:
    assert not list(broken(outcome(answer(2, "peer_failed")), []))


def test_a_connection_may_break_only_with_the_node_behind_it() -> None:
    lost = outcome(answer(1, ends=0), "broken")
    assert list(broken(lost, [span("kill", 1, 9, 12), span("stop", 0, 9, 12), span("kill", 0, 2, 9)]))
    assert not list(broken(lost, [span("kill", 0, 9, 12)]))


def test_beyond_the_deadline_there_are_two_seconds() -> None:
    assert not list(broken(replace(FAILED, ended_s=16.9), []))
    assert list(broken(replace(FAILED, ended_s=17.1), []))


def test_a_node_that_stood_still_has_two_seconds_from_when_it_went_on() -> None:
    stopped = [span("stop", 0, 14.0, 18.0)]
    assert not list(broken(replace(FAILED, ended_s=19.9), stopped))
    assert list(broken(replace(FAILED, ended_s=20.1), stopped))
    assert list(broken(replace(FAILED, ended_s=19.9), [span("stop", 1, 14.0, 18.0)]))


@pytest.mark.parametrize(
    ("one", "spans"),
    [
        (replace(FAILED, how="left"), []),
        (replace(FAILED, ask=replace(ASK, hopeless=True)), []),
        (FAILED, [span("kill", 0, 9, 12)]),
        (FAILED, [span("stop", 0, 10.4, 12)]),
        (FAILED, [span("cut", 0, 5, 10.1)]),
        (replace(FAILED, ask=replace(ASK, pin=1)), [span("refuse", 1, 9, 12)]),
        (outcome(answer(1, "peer_failed")), [span("kill", 1, 10.3, 12)]),
        (outcome(answer(1, "engine_failed")), [span("json", 1, 5, 10.05)]),
        (outcome(answer(1, "peer_failed")), [span("link", 1, 10.3, 12, 0)]),
        (FAILED, [span("kill", 1, 9, 12), span("cut", 2, 9, 12), span("refuse", 0, 9, 12)]),
    ],
)
def test_what_does_not_count(one: Outcome, spans: list[Span]) -> None:
    assert excuse(PLAN, one, spans)


@pytest.mark.parametrize(
    ("one", "spans"),
    [
        (FAILED, [span("refuse", 0, 9, 12)]),
        (FAILED, [span("kill", 0, 5, 9.9), span("kill", 1, 9, 12)]),
        (replace(FAILED, ask=replace(ASK, pin=1)), [span("refuse", 2, 9, 12)]),
        (replace(FAILED, ask=replace(ASK, pin=1)), [span("link", 1, 9, 12, 0)]),
        (outcome(answer(1, "peer_failed")), [span("kill", 2, 10.3, 12)]),
        (outcome(answer(1, "engine_failed")), [span("slow", 1, 5, 12)]),
        (outcome(answer(1, "peer_failed")), [span("link", 1, 10.3, 12, 2)]),
        (outcome(answer(1, "engine_failed"), ask=replace(ASK, stream=False)), [span("json", 1, 5, 12)]),
        (FAILED, [span("kill", 1, 9, 10.2), span("cut", 2, 9, 10.2)]),
        (FAILED, [span("kill", 1, 9, 12), span("link", 0, 9, 12, 2)]),
    ],
)
def test_what_counts_all_the_same(one: Outcome, spans: list[Span]) -> None:
    assert not excuse(PLAN, one, spans)


def test_failover_is_timed_from_when_the_fault_could_be_felt() -> None:
    tried = (Attempt("n1", 10.0, "peer_failed", ""), Attempt("n2", 10.9, "answered", "elsewhere"))
    moved = outcome(attempts=tried, first_s=11.0)
    assert failover(moved, [span("kill", 1, 10.4, 12)]) == pytest.approx(0.6)
    assert failover(moved, [span("kill", 1, 9.0, 12)]) == pytest.approx(1.0)
    assert failover(moved, [span("kill", 2, 9.0, 12)]) is None
    assert failover(moved, [span("kill", 1, 9.0, 12), span("kill", 0, 9.0, 12)]) is None
    whole = replace(moved, ask=replace(ASK, stream=False))
    assert failover(whole, [span("kill", 1, 10.4, 12)]) == pytest.approx(0.5 + PREFILL_S)
    assert failover(outcome(attempts=tried[:1]), [span("kill", 1, 10.4, 12)]) is None
