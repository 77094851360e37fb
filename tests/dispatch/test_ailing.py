"""An engine that fails everybody: its node tells a wait, so that each asker need not find out, and still serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from meshnode.errors import EngineFailed
from meshnode.slots.ailing import FAILURES, FIRST_S
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world

MODEL = "m"
NO_JSON = b"data: {no\n\n"


async def fails(node: WorldNode) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        await node.local.serve(node.job(MODEL))
    return caught.value


def wait_s(node: WorldNode) -> float:
    return node.local.state().models[MODEL].expected_wait_s


async def test_after_some_failures_its_node_has_no_slot_free_until_it_may_be_well(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        node = await where.add("server", engine=ScriptedEngine(MODEL, [NO_JSON]))
        for _ in range(FAILURES - 1):
            assert (await fails(node)).load.endswith(" 0 0 0")
            assert wait_s(node) == 0.0
        told = (await fails(node)).load.split()
        assert told[0] == "0" and 0 < int(told[3]) <= 2 * FIRST_S * 1000
        assert FIRST_S < wait_s(node) <= 2 * FIRST_S
        assert node.local.state().models[MODEL].free == 0


async def test_who_asks_all_the_same_is_served_and_makes_it_well(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [NO_JSON])
        node = await where.add("server", engine=engine)
        for _ in range(FAILURES):
            await fails(node)
        engine.script = [EVENT, LAST]
        _, body = await node.ask_whole(MODEL)
        assert body == EVENT + LAST
        assert wait_s(node) == 0.0


async def test_failures_after_the_first_token_count(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        node = await where.add("server", engine=ScriptedEngine(MODEL, [EVENT, 0.1, NO_JSON]))
        for _ in range(FAILURES):
            answer = await node.local.serve(node.job(MODEL))
            with pytest.raises(EngineFailed):
                async for _ in answer:
                    pass
            await answer.aclose()
        assert wait_s(node) > 0.0
