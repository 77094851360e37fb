"""A client that leaves at any step whatever leaves no slot taken, no engine running and nothing counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.front.reply import close
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world

MODEL = "m"


class Leave(trio.abc.Instrument):
    """Cancels `scope` at a step of the scheduler, counted from now."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.left = steps
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def ask(node: WorldNode) -> None:
    """As the front does: whoever leaves closes what it was given."""
    answer = await node.ask(MODEL)
    try:
        async for _ in answer:
            pass
    finally:
        await close(answer)


async def leaves_after(node: WorldNode, steps: int) -> bool:
    """Ask, leave at that step; whether the answer was still under way."""
    with trio.CancelScope() as scope:
        leave = Leave(scope, steps)
        trio.lowlevel.add_instrument(leave)
        try:
            await ask(node)
        finally:
            trio.lowlevel.remove_instrument(leave)
    return scope.cancelled_caught


@pytest.mark.parametrize("where_it_runs", ["here", "there"])
async def test_leaving_at_any_step_gives_the_slot_back(
    tmp_path: Path, autojump_clock: MockClock, where_it_runs: str
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 0.01, EVENT, LAST], slots=1)
        server = await where.add("server", engine=engine)
        node = server
        if where_it_runs == "there":
            node = await where.add("node", peers=("server",))
            await node.until_reachable({"server"}, model_of="server")
        steps = 0
        under_way = True
        while under_way:
            steps += 1
            under_way = await leaves_after(node, steps)
            await trio.testing.wait_all_tasks_blocked()
            load = server.local.load(engine)
            assert (engine.running, load.free, load.queued) == (0, 1, 0), f"left at step {steps}"
            assert (node.dispatcher.running, server.inbound.running) == (0, 0), f"left at step {steps}"
        assert engine.cut > 0 and steps > 3


async def test_leaving_the_queue_at_the_moment_a_slot_is_given_loses_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 5.0, LAST], slots=1)
        node = await where.add("server", engine=engine)
        for early_s in (0.001, 0.0, -0.001):
            with trio.move_on_after(5.0 - early_s) as patience:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, node)
                    await engine.until(running=1)
                    nursery.start_soon(ask, node)
            await trio.testing.wait_all_tasks_blocked()
            assert patience.cancelled_caught
            load = node.local.load(engine)
            assert (engine.running, load.free, load.queued) == (0, 1, 0)


async def test_who_leaves_with_the_last_words_was_answered_however_late_the_end_comes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        node = await where.add("server", engine=ScriptedEngine(MODEL, [EVENT, LAST, 1000.0]))
        for last in (LAST, EVENT):
            answer = await node.ask(MODEL)
            while await answer.__anext__() != last:
                pass
            await answer.aclose()
            dispatcher = node.dispatcher
            assert (dispatcher.running, dispatcher.answered, dispatcher.failed) == (0, 1, 0)
