"""A conversation stays where its prompt is cached, and leaves when staying costs more than starting anew."""

from __future__ import annotations

import dataclasses
from random import Random

from meshnode.config.routing import RoutingSection
from meshnode.model.job import Job, Wishes
from meshnode.routing import Plan, Router
from meshnode.routing.affinity import Affinity, conversation_of
from meshnode.slots import Load
from tests.routing.build import NOTHING, job, mesh, node, router, serving, star

VIEW = star(6)


def turn(session: str = "s", tenant: str = "") -> Job:
    return dataclasses.replace(job(prompt_tokens=2000, session=session), wishes=Wishes(tenant=tenant))


def consider(made: Router, asked: Job, now: float = 0.0, seed: int = 1) -> Plan:
    return made.consider(asked, VIEW, NOTHING, Random(seed), now)


def answered(made: Router, asked: Job, now: float = 0.0) -> int:
    attempt = consider(made, asked, now).attempts[0]
    flight = made.started(attempt, 2000, now)
    made.first_token(flight, now + 1.0)
    made.finished(flight, 50, now + 2.0)
    return attempt.node[1]


def test_its_turns_stay_on_one_node() -> None:
    made = router()
    home = answered(made, turn())
    for seed in range(20):
        plan = consider(made, turn(), 5.0, seed)
        assert plan.attempts[0].node == node(home)
        assert (plan.reason, plan.conversation) == ("where this conversation's prompt is cached", "kept")


def test_it_stays_though_this_node_could_answer_too() -> None:
    made = router()
    home = answered(made, turn())
    view = mesh([(0, n, 10) for n in range(1, 7)])
    assert made.consider(turn(), view, serving(), Random(1), 5.0).attempts[0].node == node(home)


def test_every_entry_node_thinks_of_the_same_servers_for_a_new_one() -> None:
    firsts = [{consider(router(), turn(f"s{n}"), seed=seed).attempts[0].node for seed in range(5)} for n in range(30)]
    assert all(len(found) == 1 for found in firsts)
    assert len(set().union(*firsts)) > 3


def test_it_leaves_when_waiting_costs_more_than_a_fresh_start() -> None:
    made = router()
    home = answered(made, turn())
    made.reported(node(home), "llama", Load(0, 1, 1, 0.5), 5.0)
    assert consider(made, turn(), 5.0).conversation == "kept"
    made.reported(node(home), "llama", Load(0, 1, 9, 60.0), 5.0)
    plan = consider(made, turn(), 5.0)
    assert plan.attempts[0].node != node(home)
    assert "fresh start" in plan.conversation


def test_it_leaves_a_node_that_is_gone_and_one_that_failed() -> None:
    made = router()
    home = answered(made, turn())
    view = star(6, {home: {"draining": True}})
    assert made.consider(turn(), view, NOTHING, Random(1), 5.0).conversation == "its server cannot take it now"
    made.failed(made.started(consider(made, turn(), 5.0).attempts[0], 2000, 5.0), 6.0)
    assert consider(made, turn(), 6.0).conversation == "new"


def test_tenants_and_models_have_conversations_of_their_own() -> None:
    asked = [turn(), turn("t"), turn(tenant="a"), dataclasses.replace(turn(), facts=job("other", session="s").facts)]
    assert len({conversation_of(one) for one in asked}) == 4
    assert conversation_of(job()) == 0


def test_what_is_remembered_is_bounded_in_number_and_age() -> None:
    kept = Affinity(RoutingSection(sessions=3, session_s=10.0))
    for number in range(1, 6):
        kept.settle(number, node(number), "m", float(number))
    assert len(kept) == 3
    assert kept.home(1, 5.0) is None
    assert kept.home(5, 14.0) is not None
    assert kept.home(5, 15.0) is None
