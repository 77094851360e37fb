"""Explanations are plain data and leave nobody out."""

from __future__ import annotations

import json
from random import Random

from meshnode.routing import Plan, explain, reason
from meshnode.routing.aperture import WIDE
from meshnode.routing.order import OTHERS
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


def test_nobody_who_may_serve_is_left_out_however_many_they_are() -> None:
    view = star(60)
    plan = router().plan(job(), view, NOTHING, Random(1), 0.0)
    found = json.loads(json.dumps(explain(plan, view)))
    rows = [*found["attempts"], *found["others"], *found["further"]]
    assert len(found["others"]) == OTHERS
    assert sorted(row["name"] for row in rows) == sorted(f"n{number}" for number in range(1, 61))
    assert {tuple(row["terms"]) for row in rows} == {Terms._fields}


def test_of_more_servers_than_a_decision_looks_at_the_others_are_counted() -> None:
    view, made = star(WIDE + 100), router()
    first, second = (made.plan(job(), view, NOTHING, Random(seed), 0.0) for seed in (1, 2))
    for plan, seen in ((first, WIDE + 100), (second, second.eligible)):
        found = explain(plan, view)
        rows = [*found["attempts"], *found["others"], *found["further"]]
        assert len(rows) == seen
        assert found["not_looked_at"] == WIDE + 100 - seen
    assert second.unseen > 0


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
