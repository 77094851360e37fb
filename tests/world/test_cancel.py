"""Whoever leaves, in whatever phase and however far from the engine: the slot is free a tenth of a second later.

The virtual net has no latency, so nothing of that is the way. The engine is a fake llama-server behind the real client,
which sees a left request as a closed connection and records it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine
from meshnode.engine.client import EngineClient
from meshnode.testing import FakeEngine
from tests.kit.world import Papers, ScriptedEngine, World, WorldNode, world

MODEL = "fake-model"
WITHIN_S = 0.1
PLACES = {"local": "a", "direct": "ab", "open": "abc", "sealed": "abc"}


class Wired(ScriptedEngine):
    """A fake engine behind the real client, over memory instead of sockets."""

    def __init__(self, fake: FakeEngine, nursery: trio.Nursery) -> None:
        super().__init__(MODEL, slots=fake.slots)

        async def dial() -> trio.abc.Stream:
            near, far = memory_stream_pair()
            nursery.start_soon(fake.serve_stream, far)
            await trio.lowlevel.checkpoint()
            return near

        self._engine = Engine(EngineClient("http://fake", dial=dial), EngineSection())

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> Any:
        return await self._engine.serve(route, headers, body)


async def row(where: World, place: str, engine: ScriptedEngine) -> list[WorldNode]:
    """Nodes in a row, the last one serves; whoever asks is the first."""
    nodes: list[WorldNode] = []
    names = PLACES[place]
    mesh = {"dial_learned": False, **({"relay_class": "open"} if place == "open" else {})}
    for name in names:
        nodes.append(
            await where.add(
                name,
                peers=(nodes[-1].name,) if nodes else (),
                engine=engine if name == names[-1] else None,
                settings={"mesh": mesh},
                papers=Papers(root=not nodes),
            )
        )
    if len(nodes) > 1:
        await nodes[0].until_reachable(set(names[1:]), model_of=names[-1])
        await nodes[-1].until_reachable(set(names[:-1]))
    return nodes


class When(trio.abc.Instrument):
    """Cancels as soon as something is so, in the very step."""

    def __init__(self, scope: trio.CancelScope, so: Callable[[], bool]) -> None:
        self._scope = scope
        self._so = so

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._so():
            self._scope.cancel()


async def read(node: WorldNode, got: list[bytes], *, stream: bool = True, size: int = 0, **fake: Any) -> None:
    """Ask and read, as the front does; `fake` is how the engine behaves, `size` how much larger the body is."""
    more = b'"fake":%s,"user":"%s",' % (json.dumps(fake).encode(), b"x" * size)
    answer = await node.ask(MODEL, stream=stream, more=more)
    try:
        async for chunk in answer:
            got.append(chunk)
    finally:
        with trio.CancelScope(shield=True):
            await answer.aclose()


def at_rest(nodes: list[WorldNode]) -> bool:
    return not any(node.dispatcher.running or node.inbound.running for node in nodes)


PHASES: dict[str, dict[str, Any]] = {
    "before the first token": {"hang": "prefill"},
    "mid-stream": {"tokens": 9, "hang": "stream", "at": 2},
    "between slow tokens": {"tokens": 1000, "token_s": 0.01},
    "not streaming": {"stream": False, "tokens": 1000, "token_s": 1.0},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("phase", PHASES)
async def test_the_slot_is_free_within_a_tenth_of_a_second(
    tmp_path: Path, autojump_clock: MockClock, place: str, phase: str
) -> None:
    async with trio.open_nursery() as outer, world(tmp_path) as where:
        fake = FakeEngine(slots=1)
        engine = Wired(fake, outer)
        nodes = await row(where, place, engine)
        got: list[bytes] = []
        with trio.move_on_after(3.0) as patience:
            await read(nodes[0], got, **PHASES[phase])
        assert patience.cancelled_caught
        await trio.sleep(WITHIN_S)
        (record,) = fake.records
        assert record.cut and record.ended_at is not None
        assert bool(got) == ("stream" in PHASES[phase].get("hang", "") or phase == "between slow tokens")
        load = nodes[-1].local.load(engine)
        assert (fake.running, load.free, load.queued) == (0, 1, 0)
        assert at_rest(nodes)
        outer.cancel_scope.cancel()


@pytest.mark.parametrize("place", PLACES)
async def test_who_leaves_the_queue_leaves_no_place_and_never_reaches_the_engine(
    tmp_path: Path, autojump_clock: MockClock, place: str
) -> None:
    async with trio.open_nursery() as outer, world(tmp_path) as where:
        fake = FakeEngine(slots=1)
        engine = Wired(fake, outer)
        nodes = await row(where, place, engine)
        server = nodes[-1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: read(server, [], tokens=9, hang="stream", at=2))
            await fake.started()
            with trio.move_on_after(3.0) as patience:
                await read(nodes[0], [])
            assert patience.cancelled_caught
            await trio.sleep(WITHIN_S)
            load = server.local.load(engine)
            assert (len(fake.records), fake.running, load.busy, load.queued) == (1, 1, 1, 0)
            assert not any(record.cut for record in fake.records)
            nursery.cancel_scope.cancel()
        await trio.sleep(WITHIN_S)
        assert (fake.running, server.local.load(engine).free) == (0, 1)
        assert at_rest(nodes)
        outer.cancel_scope.cancel()


@pytest.mark.parametrize("place", ["direct", "open", "sealed"])
async def test_who_leaves_while_the_body_is_on_its_way_holds_nothing_anywhere(
    tmp_path: Path, autojump_clock: MockClock, place: str
) -> None:
    async with trio.open_nursery() as outer, world(tmp_path) as where:
        fake = FakeEngine(slots=1)
        engine = Wired(fake, outer)
        nodes = await row(where, place, engine)
        with trio.CancelScope() as scope:
            when = When(scope, lambda: nodes[-1].inbound.running > 0)
            trio.lowlevel.add_instrument(when)
            try:
                await read(nodes[0], [], size=900_000)
            finally:
                trio.lowlevel.remove_instrument(when)
        assert scope.cancelled_caught
        await trio.sleep(WITHIN_S)
        assert (fake.records, fake.running, nodes[-1].local.load(engine).free) == ([], 0, 1)
        assert at_rest(nodes)
        outer.cancel_scope.cancel()
