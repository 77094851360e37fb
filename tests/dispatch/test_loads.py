"""Clients that leave while the model loads: the load goes on, bounded, and its slot comes back however it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import EngineFailed
from meshnode.model.advert import ModelOffer
from tests.dispatch.test_leaving import leaves_after
from tests.kit.world import LAST, ScriptedAnswer, ScriptedEngine, World, WorldNode, world

MODEL = "m"
LOAD_S = 20.0


class LoadingEngine(ScriptedEngine):
    """Loads for a request, and undoes the load when that request's connection closes, as Ollama does."""

    loaded = False
    undone = 0
    load_s = LOAD_S
    fails: Exception | None = None

    @property
    def offers(self) -> tuple[ModelOffer, ...]:
        return tuple(msgspec.structs.replace(offer, loaded=self.loaded) for offer in super().offers)

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> ScriptedAnswer:
        if not self.loaded:
            try:
                await trio.sleep(self.load_s)
            except trio.Cancelled:
                self.undone += 1
                raise
            if self.fails is not None:
                raise self.fails
            self.loaded = True
        return await super().serve(route, headers, body)


async def asked(where: World, engine: ScriptedEngine, hops: int, **settings: float) -> tuple[WorldNode, WorldNode]:
    """Who asks, and the server."""
    server = await where.add("server", engine=engine, settings={"engine": settings})
    if not hops:
        return server, server
    node = await where.add("node", peers=("server",))
    await node.until_reachable({"server"}, model_of="server")
    return node, server


async def leave_after(node: WorldNode, seconds: float) -> None:
    with trio.move_on_after(seconds) as patience:
        await node.ask_whole(MODEL)
    assert patience.cancelled_caught


def free(server: WorldNode, engine: ScriptedEngine) -> int:
    return server.local.load(engine).free


@pytest.mark.parametrize("hops", [0, 1])
async def test_a_client_that_leaves_does_not_undo_the_load(
    tmp_path: Path, autojump_clock: MockClock, hops: int
) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL, slots=2)
        node, server = await asked(where, engine, hops)
        await leave_after(node, 5.0)
        await trio.sleep(1.0)
        assert (server.inbound.running, node.dispatcher.running) == (0, 0)
        assert (engine.undone, free(server, engine), server.local.loads.kept) == (0, 1, 1)
        await trio.sleep(LOAD_S)
        assert (engine.loaded, engine.running, engine.cut) == (True, 0, 1)
        assert (free(server, engine), server.local.loads.kept) == (2, 0)
        began = trio.current_time()
        _, body = await node.ask_whole(MODEL)
        assert body.endswith(LAST) and trio.current_time() - began < 1.0


async def test_who_stays_is_answered_and_holds_nothing_after(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL)
        node, server = await asked(where, engine, 1)
        _, body = await node.ask_whole(MODEL)
        assert body.endswith(LAST)
        assert (free(server, engine), server.local.loads.kept, engine.running) == (4, 0, 0)


async def test_a_load_that_nobody_waits_for_ends_in_bounded_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL)
        engine.load_s = 1e6
        node, server = await asked(where, engine, 1, kept_load_s=100.0)
        await leave_after(node, 5.0)
        await trio.sleep(99.0)
        assert (engine.undone, free(server, engine)) == (0, 3)
        await trio.sleep(2.0)
        assert (engine.undone, free(server, engine), server.local.loads.kept) == (1, 4, 0)


async def test_only_so_many_are_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL)
        node, server = await asked(where, engine, 0, kept_loads=1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(leave_after, node, 5.0)
        assert (engine.undone, free(server, engine), server.local.loads.kept) == (2, 3, 1)


async def test_a_load_that_fails_is_told_to_who_waits_and_gives_the_slot_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL)
        engine.fails = EngineFailed("no memory for it")
        node, server = await asked(where, engine, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_after, node, 5.0)
            with pytest.raises(EngineFailed, match="no memory"):
                await node.ask(MODEL)
        assert (free(server, engine), server.local.loads.kept, engine.undone) == (4, 0, 0)


@pytest.mark.parametrize("hops", [0, 1])
async def test_leaving_at_any_step_of_a_load_gives_the_slot_back(
    tmp_path: Path, autojump_clock: MockClock, hops: int
) -> None:
    async with world(tmp_path) as where:
        engine = LoadingEngine(MODEL, slots=1)
        engine.load_s = 0.01
        node, server = await asked(where, engine, hops)
        steps, under_way = 0, True
        while under_way:
            steps += 1
            engine.loaded = False
            under_way = await leaves_after(node, steps)
            await trio.sleep(1.0)
            assert (engine.running, free(server, engine)) == (0, 1), f"left at step {steps}"
            assert (server.local.loads.kept, server.inbound.running, node.dispatcher.running) == (0, 0, 0)
        assert steps > 3
