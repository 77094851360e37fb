"""What a relay does with an open job: keeps its target unless it knows clearly better, and never goes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import ways, wire
from meshnode.dispatch.asking import ask
from meshnode.dispatch.pursuit_events import Role, Try
from meshnode.dispatch.rechoose import target_for
from meshnode.dispatch.ways import Way
from meshnode.model.ids import NodeId
from meshnode.model.job import Label, Privacy
from meshnode.model.view import View
from meshnode.routing import Attempt
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world
from tests.routing.build import ME, NOTHING, job, mesh, node, router, serving

WITHOUT = {0: {"models": ()}}
ROW = [(0, 1, 1), (0, 2, 1), (1, 3, 1)]
"""0 relays; 9 would be the origin. 1 and 2 are next door, 3 is behind 1."""


def around(view: View, local: Any = NOTHING, slow: dict[int, float] | None = None) -> Any:
    made = router()
    for number, seconds in (slow or {}).items():
        attempt = next(a for a in made.consider(job(), view, local, Random(1), 0.0).attempts if a.node == node(number))
        flight = made.started(attempt, 0, 0.0)
        made.first_token(flight, seconds)
        made.finished(flight, 10, seconds)
    return SimpleNamespace(view=lambda: view, router=made, local=SimpleNamespace(state=lambda: local), me=ME)


def sent(**changes: Any) -> Any:
    return dataclasses.replace(job(), origin=node(9), path=(node(9),), **changes)


def test_a_target_that_serves_is_kept() -> None:
    view = mesh(ROW, changes=WITHOUT)
    assert target_for(around(view), sent(), node(1), 0.0) == node(1)


def test_a_target_that_is_gone_is_replaced() -> None:
    view = mesh(ROW, changes=WITHOUT)
    assert target_for(around(view), sent(), node(8), 0.0) in {node(1), node(2), node(3)}


def test_a_target_that_is_shutting_down_is_replaced() -> None:
    view = mesh(ROW, changes=WITHOUT | {1: {"draining": True}, 3: {"models": ()}})
    assert target_for(around(view), sent(), node(1), 0.0) == node(2)


def test_nobody_else_leaves_the_job_as_it_is() -> None:
    view = mesh([(0, 1, 1)], changes={0: {"models": ()}, 1: {"models": ()}})
    assert target_for(around(view), sent(), node(1), 0.0) == node(1)


def test_never_back_to_where_the_job_has_been() -> None:
    view = mesh(ROW, changes=WITHOUT | {3: {"models": ()}})
    been = sent()
    been = dataclasses.replace(been, path=(node(9), node(2)))
    assert target_for(around(view), been, node(8), 0.0) == node(1)


def test_a_clearly_quicker_server_next_door_is_taken_and_a_slightly_quicker_one_not() -> None:
    view = mesh(ROW, changes=WITHOUT | {2: {"models": ()}})
    for seconds, expected in ((60.0, node(1)), (0.0, node(3))):
        there = around(view, slow={3: seconds, 1: 0.1} if seconds else {3: 0.1, 1: 0.09})
        assert target_for(there, sent(), node(3), 61.0) == expected


def test_this_nodes_own_engine_counts_as_next_door() -> None:
    view = mesh(ROW, changes={2: {"models": ()}})
    there = around(view, local=serving(), slow={3: 60.0})
    assert target_for(there, sent(), node(3), 61.0) in {ME, node(1)}


# What leaves it free.


def way(privacy: str) -> Way:
    return Way(None, (ME, node(1), node(3)), privacy)  # type: ignore[arg-type]


def attempt(model: str = "llama") -> Attempt:
    return Attempt(node(3), model, (ME, node(1), node(3)), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "privacy", "sealed", "free"),
    [
        (Label.INTERNAL, None, True, False),
        (Label.INTERNAL, Privacy.OPEN, False, True),
        (Label.PUBLIC, None, True, True),
        (Label.PUBLIC, Privacy.SEALED, True, True),
        (Label.SENSITIVE, Privacy.OPEN, True, True),
    ],
)
def test_labels_and_words_decide(label: Label, privacy: Privacy | None, sealed: bool, free: bool) -> None:
    asked = dataclasses.replace(job(), label=label, privacy=privacy)
    assert ways.seals(asked, "sealed") is sealed
    assert ways.seals(asked, "open") is (label is Label.SENSITIVE or privacy is Privacy.SEALED)
    assert not ways.free(asked, attempt(), way("sealed"))
    if not sealed or label is Label.PUBLIC:
        assert ways.free(asked, attempt(), way("open")) is free


def test_a_job_for_a_named_node_is_not_free() -> None:
    asked = dataclasses.replace(job("llama@n3"), privacy=Privacy.OPEN)
    assert not ways.free(asked, attempt("llama")._replace(bound=True), way("open"))
    found = router().plan(asked, mesh([(0, 3, 1)], 4), NOTHING, Random(1), 0.0)
    assert [one.bound for one in found.attempts] == [True]


def test_a_path_that_was_told_counts_only_where_it_can_be_true() -> None:
    told = wire.write_path((ME, node(1), node(2)))
    assert ways.passed(way("open"), {wire.PATH: told})[-1] == node(2)
    for headers in ({}, {wire.PATH: "nonsense"}, {wire.PATH: wire.write_path((node(5), node(2)))}):
        assert ways.passed(way("open"), headers) == way("open").path
    assert ways.passed(way("sealed"), {wire.PATH: told}) == way("sealed").path


# In a world.


async def three_servers(where: World, relay_class: str) -> tuple[WorldNode, WorldNode, dict[str, ScriptedEngine]]:
    """origin - relay - near, and far behind near."""
    engines = {name: ScriptedEngine("m") for name in ("near", "far")}
    settings = {"mesh": {"dial_learned": False, "relay_class": relay_class}}
    relay = await where.add("relay", settings=settings)
    await where.add("near", peers=("relay",), engine=engines["near"], settings=settings)
    await where.add("far", peers=("near",), engine=engines["far"], settings=settings)
    origin = await where.add("origin", peers=("relay",), settings=settings)
    await origin.until_reachable({"relay", "near", "far"}, model_of="far")
    await relay.until_reachable({"origin", "near", "far"}, model_of="far")
    return origin, relay, engines


async def test_an_open_job_whose_server_died_is_served_by_another_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        origin, relay, engines = await three_servers(where, "sealed")
        view = origin.member.view()
        far = where.nodes["far"].id
        stale = origin.router.plan(origin.job("m"), view, NOTHING, Random(1), trio.current_time()).attempts
        meant = next(attempt for attempt in stale if attempt.node == far)
        await where.kill("far")
        with trio.fail_after(5):
            await relay.until_reachable({"origin", "near"})
        flight = origin.router.started(meant, 1, trio.current_time())
        order = Try(1, meant, Role.FIRST)
        tried = await ask(origin.around, origin.job("m", privacy=Privacy.OPEN), "j-1", order, flight)
        assert b"".join([tried.first, *[chunk async for chunk in tried.answer]]) == EVENT + LAST
        assert [view.name(passed) for passed in tried.path] == ["origin", "relay", "near"]
        assert (engines["near"].served, engines["far"].served) == (1, 0)


async def test_an_open_job_is_shown_with_the_way_it_took(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        origin, _, _ = await three_servers(where, "open")
        answer, body = await origin.ask_whole("m@far")
        assert body == EVENT + LAST
        assert answer.headers["x-meshnode-path"] == "origin > relay > near > far"
        assert answer.headers["x-meshnode-privacy"] == "open"
        assert wire.PATH not in answer.headers


def test_ids_are_read_back() -> None:
    path = (ME, node(1))
    assert wire.read_path(wire.write_path(path)) == path
    assert all(isinstance(found, NodeId) for found in wire.read_path(wire.write_path(path)))
