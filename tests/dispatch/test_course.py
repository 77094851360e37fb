"""Which attempt is next when a server, or only the relay before it, was lost. 0 asks, 1 and 2 relay, 3 serves."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.course import Course
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world
from tests.routing.build import ME, NOTHING, job, mesh, node, router

WITHOUT = {number: {"models": ()} for number in (0, 1, 2)}
TWO_WAYS = [(0, 1, 1), (0, 2, 5), (1, 3, 1), (2, 3, 5)]


def busy(relay: WorldNode) -> bool:
    return bool(relay.inbound.running or len(relay.member.mesh.tunnels.relay))


def course(view: View, gone: set[NodeId], most: int = 3) -> Course:
    """`gone` are neighbours whose link has ended; it may grow."""

    def link(peer: NodeId) -> Any:
        return None if peer in gone else SimpleNamespace(reason=None)

    made = router()
    plan = made.plan(job(), view, NOTHING, Random(1), 0.0)
    return Course(plan, 4, most, made, lambda: view, link)


def test_a_server_behind_a_lost_relay_is_tried_over_another() -> None:
    gone: set[NodeId] = set()
    going = course(mesh(TWO_WAYS, changes=WITHOUT), gone)
    first = going.next()
    assert first is not None
    assert first.path == (ME, node(1), node(3))
    gone.add(node(1))
    going.failed(first)
    second = going.next()
    assert second is not None
    assert second.path == (ME, node(2), node(3))
    assert (second.node, going.number) == (first.node, 2)


def test_servers_without_a_slot_at_once_do_not_count_up_to_two() -> None:
    going = course(mesh([(0, number, 1) for number in range(1, 9)], changes={0: {"models": ()}}), set())
    asked = []
    while (attempt := going.next()) is not None:
        asked.append(attempt.node)
        if going.may_redirect:
            going.redirected(attempt)
    assert len(asked) == len(set(asked)) == 5
    assert not going.may_redirect
    assert going.after_all() is None, "three were really asked"


def test_who_had_no_slot_at_once_is_asked_again_once_where_no_other_is_left() -> None:
    going = course(mesh([(0, 1, 1), (0, 2, 1)], changes={0: {"models": ()}}), set())
    first, second = going.next(), going.next()
    assert first is not None and second is not None
    going.redirected(first)
    assert going.next() is None
    assert going.after_all() == first
    assert going.after_all() is None


def test_who_had_no_slot_at_once_is_asked_again_past_a_relay_that_was_lost() -> None:
    gone: set[NodeId] = set()
    going = course(mesh(TWO_WAYS, changes=WITHOUT), gone)
    first = going.next()
    assert first is not None and first.path == (ME, node(1), node(3))
    going.redirected(first)
    gone.add(node(1))
    going.failed(first)
    assert going.next() is not None
    again = going.after_all()
    assert again is not None and again.path == (ME, node(2), node(3))


def test_where_there_is_no_other_way_it_ends() -> None:
    going = course(mesh(TWO_WAYS[::2], changes=WITHOUT), {node(1)})
    first = going.next()
    assert first is not None
    going.failed(first)
    assert going.next() is None
    assert going.number == 1


def test_a_server_that_fails_behind_a_living_relay_is_not_tried_again() -> None:
    going = course(mesh(TWO_WAYS, changes=WITHOUT), set())
    first = going.next()
    assert first is not None
    going.failed(first)
    assert going.next() is None


def test_servers_not_tried_yet_come_first_and_past_what_was_lost() -> None:
    both = [*TWO_WAYS, (1, 4, 1), (2, 4, 5)]
    gone: set[NodeId] = set()
    going = course(mesh(both, changes=WITHOUT), gone)
    first = going.next()
    assert first is not None
    gone.add(node(1))
    going.failed(first)
    second, third = going.next(), going.next()
    assert second is not None
    assert third is not None
    assert {first.node, second.node} == {node(3), node(4)}
    assert third.node == first.node
    assert node(1) not in (*second.path, *third.path)


def test_a_way_that_was_cut_farther_on_is_tried_once_more_and_then_another() -> None:
    going = course(mesh(TWO_WAYS, changes=WITHOUT), set(), most=4)
    paths = []
    while (attempt := going.next()) is not None:
        paths.append(attempt.path[1])
        going.failed(attempt, cut=True)
    assert paths[:3] == [node(1), node(1), node(2)]


def test_attempts_are_bounded_however_many_relays_die() -> None:
    gone = {node(1), node(2)}
    going = course(mesh(TWO_WAYS, changes=WITHOUT), gone, most=2)
    while (attempt := going.next()) is not None:
        going.failed(attempt)
    assert going.number == 2


@pytest.mark.parametrize("relay_class", ["sealed", "open"])
async def test_a_relay_that_dies_before_the_first_byte_costs_one_attempt(
    tmp_path: Path, autojump_clock: MockClock, relay_class: str
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine("m", [2.0, EVENT, LAST])
        await where.add("one")
        await where.add("two", peers=("one",))
        relays = ("one", "two")
        await where.add("server", peers=relays, engine=engine, listens=False)
        settings = {"mesh": {"relay_class": relay_class}}
        asker = await where.add("asker", peers=relays, listens=False, settings=settings)
        await asker.until_reachable({"one", "two", "server"}, model_of="server")
        await trio.sleep(5)
        paths: list[str] = []

        async def ask() -> None:
            answer, body = await asker.ask_whole("m")
            assert body == EVENT + LAST
            paths.append(answer.headers["x-meshnode-path"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await engine.until_busy()
            relay = next(name for name in relays if busy(where.nodes[name]))
            await where.kill(relay)
        (other,) = set(relays) - {relay}
        assert paths == [f"asker > {other} > server"]
        assert (engine.served, engine.cut, engine.running) == (2, 1, 0)
