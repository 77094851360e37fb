"""What is drawn leaves enough servers well, repeats with its seed, and holds some of everything."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.real.faults.plan import AT_ONCE, KINDS, LINK, MODELS, SETTLE_S, SPARE, Plan, draw

SEEDS = range(40)


@pytest.fixture(params=SEEDS)
def plan(request: pytest.FixtureRequest) -> Plan:
    return draw(request.param, nodes=8, faults=60, requests=2000)


def test_two_servers_of_each_model_are_well_at_any_time(plan: Plan) -> None:
    for moment in (fault.at_s for fault in plan.faults):
        faulty = {
            fault.node
            for fault in plan.faults
            if fault.kind != LINK and fault.at_s <= moment < fault.until_s + SETTLE_S
        }
        for model in MODELS:
            well = [node for node, has in enumerate(plan.models) if model in has and node not in faulty]
            assert len(well) >= SPARE


def test_nothing_befalls_a_node_twice_at_once(plan: Plan) -> None:
    own = [fault for fault in plan.faults if fault.kind != LINK]
    for one, later in ((one, two) for one in own for two in own if one.node == two.node and one.at_s < two.at_s):
        assert one.until_s + SETTLE_S <= later.at_s


def test_few_faults_last_at_the_same_time(plan: Plan) -> None:
    for moment in (fault.at_s for fault in plan.faults):
        assert sum(fault.at_s <= moment < fault.until_s for fault in plan.faults) <= AT_ONCE


def test_every_kind_of_fault_comes_equally_often(plan: Plan) -> None:
    assert Counter(fault.kind for fault in plan.faults) == dict.fromkeys(KINDS, 5)


def test_requests_of_every_kind_fill_the_whole_time(plan: Plan) -> None:
    assert [ask.number for ask in plan.asks] == list(range(2000))
    assert plan.asks[0].at_s < 2.0 and plan.asks[-1].at_s > plan.faults[-1].at_s
    assert all(plan.asks[index].at_s <= plan.asks[index + 1].at_s for index in range(1999))
    assert any(ask.pin >= 0 for ask in plan.asks) and all(
        ask.pin < 0 or ask.model in plan.models[ask.pin] for ask in plan.asks
    )
    assert any(ask.leaves_s for ask in plan.asks) and any(ask.hopeless for ask in plan.asks)
    assert {(ask.stream, ask.model, ask.entry) for ask in plan.asks} == {
        (stream, model, node) for stream in (False, True) for model in MODELS for node in range(8)
    }


def test_a_seed_is_a_run() -> None:
    assert draw(3, 8, 60, 100) == draw(3, 8, 60, 100) != draw(4, 8, 60, 100)
