"""Several servers asked for one answer: the quickest is delivered, the others are let go and not blamed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.delivered import Delivered
from meshnode.errors import EngineFailed, Overloaded
from meshnode.model.job import Label, Wishes
from meshnode.routing.measure import Flight
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

ERROR = b'data: {"error":{"message":"out of memory","code":500}}\n\n'


async def servers(where: World, *engines: ScriptedEngine) -> WorldNode:
    """An asker, and as many servers as there are engines: s0, s1, …"""
    for number, engine in enumerate(engines):
        await where.add(f"s{number}", engine=engine)
    names = tuple(f"s{number}" for number in range(len(engines)))
    asker = await where.add("asker", peers=names)
    for name in names:
        await asker.until_reachable(set(names), model_of=name)
    return asker


def failing(asker: WorldNode) -> list[float]:
    return [record.tries for record in asker.router.known.measurements.of("m").values()]


async def test_a_race_delivers_the_quickest_and_cancels_the_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [wait_s, EVENT, LAST]) for wait_s in (30.0, 1.0, 20.0)]
        asker = await servers(where, *engines)
        answer, body = await asker.ask_whole("m", wishes=Wishes(fanout=3))
        assert body == EVENT + LAST
        assert answer.headers["x-meshnode-node"] == "s1"
        assert answer.headers["x-meshnode-fanout"] == answer.headers["x-meshnode-attempts"] == "3"
        assert answer.headers["x-meshnode-reason"] == "quickest of 3 asked at once"
        with trio.fail_after(1.0):
            for engine in engines:
                await engine.until(running=0)
        assert [engine.cut for engine in engines] == [1, 0, 1]
        assert failing(asker) == [1.0, 1.0, 1.0]
        assert all(record.outstanding == 0 for record in asker.router.known.measurements.of("m").values())


async def test_four_are_raced_where_four_were_asked_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [5.0 - number, EVENT, LAST]) for number in range(4)]
        asker = await servers(where, *engines)
        answer, _ = await asker.ask_whole("m", wishes=Wishes(fanout=4))
        assert (answer.headers["x-meshnode-fanout"], answer.headers["x-meshnode-node"]) == ("4", "s3")
        await trio.testing.wait_all_tasks_blocked()
        assert [engine.cut for engine in engines] == [1, 1, 1, 0]


async def test_answers_that_come_together_leave_nobody_running(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [1.0, EVENT, 1000.0, LAST]) for _ in range(3)]
        asker = await servers(where, *engines)
        answer = await asker.ask("m", wishes=Wishes(fanout=3))
        await trio.sleep(0.5)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(engine.running for engine in engines) == 1
        await answer.aclose()
        with trio.fail_after(1.0):
            for engine in engines:
                await engine.until(running=0)
        assert asker.dispatcher.running == 0


async def test_a_race_whose_client_leaves_leaves_nobody_running(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [1000.0, LAST]) for _ in range(2)]
        asker = await servers(where, *engines)
        with trio.move_on_after(2.0):
            await asker.ask("m", wishes=Wishes(fanout=2))
        with trio.fail_after(1.0):
            for engine in engines:
                await engine.until(running=0)
        assert [engine.cut for engine in engines] == [1, 1]
        assert asker.dispatcher.running == 0


async def test_what_is_sensitive_is_never_raced(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        mine, other = ScriptedEngine("m"), ScriptedEngine("m")
        await where.add("other", engine=other)
        node = await where.add("node", peers=("other",), engine=mine)
        await node.until_reachable({"other"}, model_of="other")
        answer, _ = await node.ask_whole("m", label=Label.SENSITIVE, wishes=Wishes(fanout=4))
        assert "x-meshnode-fanout" not in answer.headers
        assert other.served == 0


async def test_a_server_measured_before_that_hangs_is_asked_besides_soon(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engines = {name: ScriptedEngine("m", [0.1, EVENT, LAST]) for name in ("n0", "n1")}
        for name, engine in engines.items():
            await where.add(name, engine=engine)
        node = await where.add("node", peers=tuple(engines))
        await node.until_reachable(set(engines), model_of="n0")
        for name, engine in engines.items():
            await node.ask_whole(f"m@{name}")
            engine.script = [1000.0, LAST]
        began = trio.current_time()

        async def mend() -> None:
            """Whoever was asked first hangs; the other answers."""
            await trio.sleep(1.0)
            for engine in engines.values():
                engine.script = [EVENT, LAST]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(mend)
            answer, body = await node.ask_whole("m", text="another conversation")
        assert trio.current_time() - began < 3.0
        assert (body, answer.headers["x-meshnode-attempts"]) == (EVENT + LAST, "2")
        hung = next(engine for name, engine in engines.items() if name != answer.headers["x-meshnode-node"])
        with trio.fail_after(5.0):
            while hung.running:
                await hung.changed.wait()
        assert hung.cut == 1


async def hedged(where: World, first_s: float) -> tuple[WorldNode, dict[str, ScriptedEngine]]:
    """This node's engine, which usually answers after a second and now takes `first_s`, and a quick peer."""
    engines = {"node": ScriptedEngine("m", [first_s, EVENT, LAST]), "peer": ScriptedEngine("m", [0.5, EVENT, LAST])}
    await where.add("peer", engine=engines["peer"])
    node = await where.add("node", peers=("peer",), engine=engines["node"])
    await node.until_reachable({"peer"}, model_of="peer")
    for _ in range(60):
        node.dispatcher.budgets.hedges.request()
        node.dispatcher.usual.add(Flight(node.id, "m", 0, 0.0), 1.0)
    return node, engines


async def test_a_small_request_that_is_late_is_asked_elsewhere_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        node, engines = await hedged(where, 50.0)
        began = trio.current_time()
        answer, body = await node.ask_whole("m")
        assert body == EVENT + LAST
        assert trio.current_time() - began < 3.0
        assert (answer.headers["x-meshnode-node"], answer.headers["x-meshnode-hedged"]) == ("peer", "won")
        assert answer.headers["x-meshnode-attempts"] == "2"
        assert (engines["node"].cut, engines["node"].running) == (1, 0)
        assert failing(node) == [1.0, 1.0]


@pytest.mark.parametrize("options", [{"stream": False}, {"text": "x" * 9000}, {"label": Label.SENSITIVE}], ids=str)
async def test_what_is_whole_large_or_sensitive_is_never_hedged(
    tmp_path: Path, autojump_clock: MockClock, options: dict[str, object]
) -> None:
    async with world(tmp_path) as where:
        node, engines = await hedged(where, 5.0)
        answer, _ = await node.ask_whole("m", **options)
        assert "x-meshnode-hedged" not in answer.headers
        assert engines["peer"].served == 0


async def test_a_request_that_is_in_time_is_not_hedged(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        node, engines = await hedged(where, 0.9)
        answer, _ = await node.ask_whole("m")
        assert "x-meshnode-hedged" not in answer.headers
        assert engines["peer"].served == 0


async def test_a_stream_that_begins_with_an_error_is_tried_elsewhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        bad, good = ScriptedEngine("m", [ERROR]), ScriptedEngine("m")
        await where.add("other", engine=good)
        node = await where.add("node", peers=("other",), engine=bad)
        await node.until_reachable({"other"}, model_of="other")
        answer, body = await node.ask_whole("m")
        assert body == EVENT + LAST
        assert answer.headers["x-meshnode-attempts"] == "2"
        assert bad.running == 0


async def test_a_mesh_in_trouble_is_retried_within_the_budget(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", refuse=EngineFailed("broken")) for _ in range(3)]
        asker = await servers(where, *engines)
        for _ in range(40):
            with pytest.raises((EngineFailed, Overloaded)):
                await asker.ask("m")
        # Each is asked at least once, though an engine that fails refuses whoever would not wait.
        assert 40 <= sum(engine.served for engine in engines) <= 40 + 10


async def test_a_request_goes_on_to_who_has_a_slot_instead_of_waiting(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [EVENT, 500.0, LAST], slots=1) for _ in range(3)]
        asker = await servers(where, *engines)
        other = await where.add("other", peers=("s0", "s1", "s2"))
        for name in ("s0", "s1", "s2"):
            await other.until_reachable({"s0", "s1", "s2"}, model_of=name)
        held = [await other.ask("m") for _ in range(2)]
        began = trio.current_time()
        answer = await asker.ask("m")
        assert trio.current_time() - began < 1.0
        assert [engine.running for engine in engines] == [1, 1, 1]
        assert failing(asker) == [1.0] * len(failing(asker)), "to have no slot is no failure"
        for one in (*held, answer):
            await one.aclose()


async def test_where_nobody_has_a_slot_one_lets_it_wait(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engines = [ScriptedEngine("m", [EVENT, 20.0, LAST], slots=1) for _ in range(3)]
        asker = await servers(where, *engines)
        held = [await asker.ask("m") for _ in range(3)]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for one in held:
                nursery.start_soon(_read, one)
            answer = await asker.ask("m")
        assert 10.0 < trio.current_time() - began < 30.0
        await answer.aclose()


async def _read(answer: Delivered) -> None:
    async for _ in answer:
        pass
    await answer.aclose()
