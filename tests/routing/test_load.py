"""How busy the servers of a plan are: own requests, own engines, what servers report."""

from __future__ import annotations

from random import Random

from meshnode.routing.load import busy_share, spare
from meshnode.slots import Load
from tests.routing.build import NOTHING, job, mesh, node, offer, router, serving, star


def test_own_requests_count_against_the_slots_of_peers() -> None:
    view, made = star(2, {n: {"models": (offer(slots=2),)} for n in (1, 2)}), router()
    plan = made.plan(job(), view, NOTHING, Random(1), 0.0)
    assert busy_share(plan, view, made.known.measurements, NOTHING, 0.0) == 0.0
    for attempt in plan.attempts:
        made.started(attempt, 10, 0.0)
    assert busy_share(plan, view, made.known.measurements, NOTHING, 0.0) == 0.5
    made.reported(node(1), "llama", Load(free=0, busy=2, queued=3, expected_wait_s=4.0), 0.0)
    assert busy_share(plan, view, made.known.measurements, NOTHING, 1.0) == 0.75
    assert busy_share(plan, mesh([]), made.known.measurements, NOTHING, 1.0) == 1.0


def test_a_slot_is_to_spare_where_any_server_has_one() -> None:
    view, made = star(2, {n: {"models": (offer(slots=1),)} for n in (1, 2)}), router()
    one, two = made.plan(job(), view, NOTHING, Random(1), 0.0).attempts
    measured = made.known.measurements
    assert spare([one, two], view, measured, NOTHING, 0.0)
    made.started(one, 10, 0.0)
    assert spare([one, two], view, measured, NOTHING, 0.0) and not spare([one], view, measured, NOTHING, 0.0)
    made.reported(two.node, "llama", Load(free=0, busy=1, queued=0, expected_wait_s=4.0), 0.0)
    assert not spare([one, two], view, measured, NOTHING, 1.0)
    assert not spare([], view, measured, NOTHING, 0.0)


def test_this_nodes_engines_say_it_themselves() -> None:
    view, made = mesh([(0, 1, 10)], changes={0: {"models": (offer(slots=4),)}, 1: {"models": ()}}), router()
    plan = made.plan(job(), view, serving(), Random(1), 0.0)
    load = serving(Load(free=1, busy=3, queued=0, expected_wait_s=0.0))
    assert busy_share(plan, view, made.known.measurements, load, 0.0) == 0.75
