"""Explanations are plain data and leave nobody out."""

from __future__ import annotations

import json
from random import Random

from meshnode.routing import Plan, explain, reason
from meshnode.routing.score import Terms
from tests.routing.build import NOTHING, job, mesh, node, router, star


def test_a_plan_becomes_json_that_names_attempts_terms_and_exclusions() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5), (0, 3, 5)], changes={0: {"models": ()}, 3: {"draining": True}})
    plan = router().plan(job(), view, NOTHING, Random(1), 0.0)
    found = json.loads(json.dumps(explain(plan, view)))
    assert [one["name"] for one in found["attempts"]] == [view.name(one.node) for one in plan.attempts]
    assert {tuple(one["path"]) for one in found["attempts"]} == {("n0", "n1"), ("n0", "n1", "n2")}
    assert set(found["attempts"][0]["terms"]) == set(Terms._fields)
    assert found["excluded"] == [{"node": node(3).text, "name": "n3", "code": "draining", "text": "is shutting down"}]
    assert "refusal" not in found


def test_a_refusal_is_explained_with_status_and_words() -> None:
    view = star(1)
    plan = router().consider(job("lama"), view, NOTHING, Random(1), 0.0)
    found = explain(plan, view)["refusal"]
    assert (found["status"], found["code"]) == (404, "model_not_found")
    assert reason(plan) == found["message"]


def test_the_phrase_fits_the_attempt_that_answered() -> None:
    plan: Plan = router().plan(job(), star(3), NOTHING, Random(1), 0.0)
    phrases = [reason(plan, attempt) for attempt in range(3)]
    assert phrases == [
        "better of two servers",
        "second choice, after 1 did not take it",
        "later choice, after 2 did not take it",
    ]
