"""An engine that says nothing: its node notices, whoever waits for it is told, near or far, newcomers go elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.journal import report
from meshnode.errors import Overloaded
from meshnode.model.job import Privacy, Wishes
from meshnode.slots.ailing import FIRST_S
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

MODEL = "m"
QUICK = [0.1, EVENT, EVENT, LAST]
HANGS = [10_000.0, EVENT, LAST]
MUTE_S = 1.2

UNDOUBTING = {"dispatch": {"hang_s": 1000.0, "hang_known_s": 1000.0, "hedge_share": 0.0}}
"""Who asks so doubts nobody by itself."""


async def measured(node: WorldNode) -> None:
    """An answer to know its engine's pace by."""
    answer = await node.local.serve(node.job(MODEL))
    assert [chunk async for chunk in answer]


async def two(where: World, hangs: ScriptedEngine, well: ScriptedEngine) -> tuple[WorldNode, WorldNode]:
    """A server whose engine hangs once it was measured, and who asks it, or another."""
    server = await where.add("server", engine=hangs)
    await where.add("other", engine=well)
    asker = await where.add("asker", peers=("server", "other"), settings=UNDOUBTING)
    await asker.until_reachable({"server", "other"}, model_of="other")
    await asker.until_reachable({"server", "other"}, model_of="server")
    await measured(server)
    hangs.script = list(HANGS)
    return server, asker


@pytest.mark.parametrize("stream", [True, False])
async def test_who_waits_at_a_mute_engine_far_away_is_told_and_asks_another_besides(
    tmp_path: Path, autojump_clock: MockClock, stream: bool
) -> None:
    async with world(tmp_path) as where:
        hangs = ScriptedEngine(MODEL, list(QUICK))
        server, asker = await two(where, hangs, ScriptedEngine(MODEL))
        asked = asker.job(MODEL, stream=stream, timeout_s=900.0)
        async with trio.open_nursery() as nursery:
            # A stream of its own clients, by which its node notices.
            nursery.start_soon(server.local.serve, server.job(MODEL))
            await hangs.until_busy()
            served, began = hangs.served, trio.current_time()
            while hangs.served == served:
                asked = asker.job(MODEL, stream=stream, timeout_s=900.0)
                answer = await asker.dispatcher.dispatch(asked)
                assert b"".join([chunk async for chunk in answer]) == EVENT + LAST
            assert trio.current_time() - began == pytest.approx(MUTE_S, abs=0.3)
            nursery.cancel_scope.cancel()
        found = asker.dispatcher.journal.find(asked.id)
        assert found is not None
        told = report(found, asker.member.view(), trio.current_time())
        events = [(step["event"], step["node"]) for step in told["timeline"]]
        assert events.index(("mute", "server")) < events.index(("asked", "other"))
        assert "said nothing" in answer.headers["x-meshnode-reason"]


@pytest.mark.parametrize("privacy", [*Privacy])
async def test_it_is_told_over_relays_too(tmp_path: Path, autojump_clock: MockClock, privacy: Privacy) -> None:
    async with world(tmp_path) as where:
        hangs = ScriptedEngine(MODEL, list(QUICK))
        await where.add("relay")
        server = await where.add("server", peers=("relay",), engine=hangs, listens=False)
        # That there is another server makes it news; it is not to answer.
        await where.add("other", peers=("relay",), engine=ScriptedEngine(MODEL, list(HANGS)), listens=False)
        asker = await where.add("asker", peers=("relay",), listens=False, settings=UNDOUBTING)
        for name in ("server", "other"):
            await asker.until_reachable({"server", "other", "relay"}, model_of=name)
        await measured(server)
        hangs.script = list(HANGS)
        async with trio.open_nursery() as nursery:
            both = asker.job(MODEL, timeout_s=900.0, privacy=privacy, wishes=Wishes(fanout=2))
            nursery.start_soon(asker.dispatcher.dispatch, both)
            await trio.sleep(2 * MUTE_S)
            nursery.cancel_scope.cancel()
        found = asker.dispatcher.journal.find(both.id)
        assert found is not None
        assert ("mute", server.id) in [(step.event, step.node) for step in found.steps]


async def test_while_it_is_mute_who_would_not_wait_is_sent_away_at_once_and_others_told_a_wait(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        hangs, well = ScriptedEngine(MODEL, list(QUICK)), ScriptedEngine(MODEL)
        server, asker = await two(where, hangs, well)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.local.serve, server.job(MODEL))
            await trio.sleep(MUTE_S + 0.01)
            state = server.local.state().models[MODEL]
            assert (state.free, FIRST_S < state.expected_wait_s <= 2 * FIRST_S) == (0, True)
            served = hangs.served
            with pytest.raises(Overloaded, match="says nothing"):
                await server.local.serve(dataclasses.replace(server.job(MODEL), at_once=True))
            for _ in range(6):
                began = trio.current_time()
                _, body = await asker.ask_whole(MODEL, timeout_s=900.0)
                assert body == EVENT + LAST and trio.current_time() - began < 0.5
            assert hangs.served == served and well.served == 6
            nursery.cancel_scope.cancel()


async def test_an_engine_that_speaks_again_is_well(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, list(QUICK))
        server = await where.add("server", engine=engine)
        await measured(server)
        engine.script = [5.0, EVENT, LAST]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(measured, server)
            await trio.sleep(2.0)
            assert server.local.state().models[MODEL].free == 0
            await trio.sleep(3.1)
            assert server.local.state().models[MODEL].free == engine.slots


async def test_nothing_is_said_of_an_engine_that_was_never_measured(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [300.0, EVENT, LAST])
        server = await where.add("server", engine=engine)
        told: list[float] = []
        answer = await server.local.serve(server.job(MODEL, timeout_s=900.0), lambda: told.append(1.0))
        assert not told and server.local.state().models[MODEL].free == engine.slots - 1
        await answer.aclose()
