"""A plan in plain data and in a phrase, for people who ask why. Pure; requests.md §1, last step.

Counterparts: the `x-meshnode-reason` header and the explain endpoint (front). Holds nothing of the prompt.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from meshnode.model.view import View
from meshnode.routing.plan import Attempt, Plan
from meshnode.routing.score import Score, named

_DIGITS = 4
"""Decimals kept: a tenth of a millisecond."""


def reason(plan: Plan, attempt: int = 0) -> str:
    """One short phrase for the attempt (counted from 0) that answered."""
    if plan.refusal is not None:
        return plan.reason
    return (
        plan.reason
        if attempt == 0
        else f"{'second' if attempt == 1 else 'later'} choice, after {attempt} did not take it"
    )


def explain(plan: Plan, view: View) -> dict[str, Any]:
    """The whole plan as values that JSON knows. Times in seconds. `view` gives the names, so that a plan which was kept
    can be told much later."""
    found: dict[str, Any] = {
        "model": plan.model,
        "label": plan.label.value,
        "reason": plan.reason,
        "tier": plan.tier or None,
        "conversation": plan.conversation or None,
        "eligible": plan.eligible,
        "attempts": [_attempt(attempt, view) for attempt in plan.attempts],
        "others": [_attempt(other, view) for other in plan.others],
        "further": _further(plan, view),
        "excluded": [
            {
                "node": exclusion.node.text,
                "name": view.name(exclusion.node),
                "code": exclusion.code,
                "text": exclusion.text,
            }
            for exclusion in plan.exclusions
        ],
        "left_out": plan.left_out,
        "not_looked_at": plan.unseen,
    }
    if plan.refusal is not None:
        found["refusal"] = {"status": plan.refusal.status, "code": plan.refusal.code, "message": plan.refusal.message}
    return found


def _attempt(attempt: Attempt, view: View) -> dict[str, Any]:
    return {
        "node": attempt.node.text,
        "name": view.name(attempt.node),
        "model": attempt.model,
        "path": [view.name(node) for node in attempt.path],
        "hops": len(attempt.path) - 1,
        **_scored(attempt.score),
    }


def _further(plan: Plan, view: View) -> list[dict[str, Any]]:
    """The rest of those that may serve, the best first. No way was laid out to them."""
    told = {(one.node, one.model) for one in (*plan.attempts, *plan.others)}
    ranked = sorted((one for tier in plan.ranked for one in tier), key=attrgetter("value"))
    return [
        {
            "node": one.candidate.node.text,
            "name": view.name(one.candidate.node),
            "model": one.candidate.name,
            "hops": one.candidate.hops,
            **_scored(named(one.rating, one.candidate, one.branch.weight)),
        }
        for one in ranked
        if (one.candidate.node, one.candidate.name) not in told
    ]


def _scored(score: Score) -> dict[str, Any]:
    return {
        "score": round(score.value, _DIGITS),
        "predicted_s": round(score.predicted_s, _DIGITS),
        "terms": {term: round(value, _DIGITS) for term, value in score.terms._asdict().items()},
    }
