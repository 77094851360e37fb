"""A decision among very many looks at some, and chooses as one that looks at all would."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.view import View
from meshnode.routing import Plan, Router
from meshnode.routing.aperture import CROWDS, FRESH, LEADERS, SHARE, WIDE, Aperture, Lots
from meshnode.routing.asked import Asked, Branch
from meshnode.routing.offers import Candidate, Offers
from meshnode.routing.tree import Tree
from meshnode.slots import Load
from tests.routing.build import ME, NOTHING, SECTION, job, mesh, node, offer, router, serving, star

MANY = 500


@cache
def wide() -> View:
    return star(MANY)


def consider(made: Router, asked: Job | None = None, view: View | None = None, seed: int = 1, **more: Any) -> Plan:
    asked = asked if asked is not None else job(prompt_tokens=750)
    return made.consider(asked, view or wide(), NOTHING, Random(seed), 10.0, **more)


def measured(made: Router, number: int, token_s: float) -> None:
    """Teach the router one answer of a node."""
    attempt = consider(made).attempts[0]._replace(node=node(number))
    flight = made.started(attempt, 750, 9.5 - 100 * token_s)
    made.first_token(flight, 10.0 - 100 * token_s)
    made.finished(flight, 101, 10.0)


def looked_at(plan: Plan) -> int:
    return plan.eligible + plan.left_out


def test_all_are_looked_at_up_to_a_bound_and_some_beyond() -> None:
    made, other = router(), router()
    for seed in range(3):
        assert consider(other, view=star(WIDE), seed=seed).unseen == 0
        plan = consider(made, seed=seed)
        assert plan.unseen + looked_at(plan) == MANY
    assert SHARE / 2 < looked_at(plan) < SHARE * 2 + LEADERS + FRESH


def test_people_who_ask_about_the_mesh_are_told_of_everybody() -> None:
    made = router()
    consider(made)
    plan = consider(made, everybody=True)
    assert (plan.eligible, plan.unseen) == (MANY, 0)


def test_each_server_is_looked_at_as_often_as_any_other() -> None:
    made = router()
    consider(made)
    firsts = Counter(consider(made, seed=seed).attempts[0].node for seed in range(4 * MANY))
    # Of two alike the lower id wins, so that the first is chosen eight times and the last never: an eighth is missing.
    assert len(firsts) > MANY * 0.82
    assert max(firsts.values()) < 20


def test_quick_servers_get_as_much_as_if_all_were_looked_at() -> None:
    made = router()
    quick = range(1, 41)
    for number in range(1, MANY + 1):
        measured(made, number, 0.005 if number in quick else 0.02 + number / 1e5)
    shares = []
    for everybody in (True, False):
        plans = [consider(made, seed=seed, everybody=everybody) for seed in range(1500)]
        shares.append(sum(plan.attempts[0].node[1] in quick and plan.attempts[0].node[0] == 0 for plan in plans) / 1500)
    assert 0.3 < shares[0] < 0.6
    assert abs(shares[1] - shares[0]) < 0.06


def test_the_best_are_looked_at_each_time() -> None:
    made = router()
    measured(made, 77, 0.0005)
    for seed in range(60):
        measured(made, 100 + seed, 0.05)
        assert node(77) in {attempt.node for attempt in consider(made, seed=seed).attempts}


def test_who_became_the_best_unseen_is_found_in_a_while_and_remembered() -> None:
    made = router()
    consider(made)
    known = made.known.measurements
    known.finished(known.started(node(401), "llama", 750, 9.9), 101, 10.0)
    found = [node(401) in {attempt.node for attempt in consider(made, seed=seed).attempts} for seed in range(1, 60)]
    assert not all(found), "it is not drawn by the first"
    assert all(found[found.index(True) :])


def test_where_few_may_serve_all_are_looked_at() -> None:
    able = {10, 200, 450}
    view = star(MANY, {n: {"models": (offer(features=("chat", "vision")),)} for n in able})
    made = router()
    consider(made, view=view)
    plan = consider(made, job(needs=frozenset({"chat", "vision"})), view)
    assert {attempt.node for attempt in plan.attempts} == {node(n) for n in able}
    assert (plan.unseen, plan.left_out) == (0, MANY - 3)
    assert consider(made, job(needs=frozenset({"rerank"})), view).refusal is not None


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(1, MANY), min_size=1, max_size=40), st.integers(0, 1000))
def test_nobody_ineligible_is_tried_however_few_may_serve(able: set[int], seed: int) -> None:
    view = star(MANY, {n: {"models": (offer(context=10_000),)} for n in able})
    made = router()
    consider(made, view=view)
    plan = consider(made, job(prompt_tokens=9000), view, seed)
    assert {attempt.node for attempt in (*plan.attempts, *plan.others)} <= {node(n) for n in able}
    assert len(plan.attempts) == min(3, len(able))


def test_breakers_hold_while_somebody_is_left_who_was_not_looked_at() -> None:
    made = router()
    consider(made)
    for number in range(1, MANY + 1):
        for _ in range(5 if number != 333 else 0):
            made.known.breakers.failed(node(number), "llama", 10.0)
    assert [attempt.node for attempt in consider(made).attempts] == [node(333)]


def test_a_request_short_of_time_finds_the_one_that_has_no_queue() -> None:
    made = router()
    consider(made)
    for number in range(1, MANY + 1):
        if number != 333:
            made.reported(node(number), "llama", Load(0, 1, 9, 50.0), 10.0)
    hasty = dataclasses.replace(job(), deadline=20.0)
    assert consider(made, hasty).attempts[0].node == node(333)


def talk(session: str) -> Job:
    return job(prompt_tokens=750, session=session)


def test_a_new_conversation_meets_the_same_servers_at_every_entry_node() -> None:
    entries = [router() for _ in range(3)]
    for number, made in enumerate(entries):
        consider(made, seed=number)
    firsts = [{consider(made, talk(f"s{n}"), seed=n).attempts[0].node for made in entries} for n in range(50)]
    assert sum(len(found) > 1 for found in firsts) < 10, "they may remember others as the best"
    assert len(set().union(*firsts)) > 30


def test_a_conversation_is_kept_whoever_is_drawn() -> None:
    made = router()
    attempt = consider(made, talk("s")).attempts[0]
    made.finished(made.started(attempt, 750, 9.0), 10, 10.0)
    for seed in range(30):
        plan = consider(made, talk("s"), seed=seed)
        assert (plan.attempts[0].node, plan.conversation) == (attempt.node, "kept")


def test_this_node_is_always_looked_at() -> None:
    view = mesh([(0, n, 10) for n in range(1, 301)])
    made = router()
    for seed in range(20):
        assert made.consider(job(), view, serving(), Random(seed), 10.0).attempts[0].node == ME


def branch(name: str, candidates: list[Candidate]) -> Asked:
    return Asked(name, None, None, ((Branch(name, candidates),),), None, len(candidates))


@pytest.mark.parametrize("more", [1, 50])
def test_the_best_of_only_so_many_models_are_remembered(more: int) -> None:
    candidates = Offers(wide(), Tree(wide(), 0.0), SECTION).by_name["llama"]
    made, lots = Aperture(), Lots(0, Random(1), ())
    for number in range(CROWDS + more):
        asked = branch(f"m{number}", candidates)
        assert made.narrow(asked, lots, SHARE) is asked
        made.learn(f"m{number}", [candidates[0].node])
    oldest, newest = branch("m0", candidates), branch(f"m{CROWDS}", candidates)
    assert made.narrow(newest, lots, SHARE) is not newest
    assert made.narrow(oldest, lots, SHARE) is oldest


def test_no_more_leaders_are_kept_than_are_looked_at_again() -> None:
    candidates = Offers(wide(), Tree(wide(), 0.0), SECTION).by_name["llama"]
    made, lots = Aperture(), Lots(0, Random(1), (NodeId(b"x" * 32),))
    made.narrow(branch("llama", candidates), lots, SHARE)
    for start in range(0, 100, 10):
        made.learn("llama", [one.node for one in candidates[start : start + 10]])
    found = made.narrow(branch("llama", candidates), lots, SHARE).tiers[0][0]
    assert len(found.leads) == LEADERS + 1
    assert {one.node for one in candidates[90:100]} <= {one.node for one in found.candidates}
