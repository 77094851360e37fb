"""A hundred requests of every kind, engines that fail in every way: each ends once and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import EngineFailed, Overloaded, RequestError
from meshnode.model.job import Wishes
from tests.kit.world import EVENT, LAST, Script, ScriptedEngine, World, WorldNode, world

REQUESTS = 100
SCRIPTS: list[Script] = [
    [1.0, EVENT, LAST],
    [0.2, EVENT, 0.5, LAST],
    [EVENT, EngineFailed("cut")],
    [EVENT],
    [50.0, LAST],
]


async def one_request(node: WorldNode, rng: Random, ends: list[str]) -> None:
    await trio.sleep(rng.random() * 20)
    wishes = Wishes(rng.choice([1, 1, 2, 3, 4]), idempotency_key=rng.choice(["", "", f"k{rng.randrange(5)}"]))
    job = node.job(
        "m", wishes=wishes, more=rng.choice([b"", b'"temperature":0,']), text=str(rng.randrange(4)),
        timeout_s=rng.choice([1.0, 5.0, 60.0]),
    )  # fmt: skip
    end = "left"
    with trio.move_on_after(rng.choice([0.5, 2.0, 1000.0])):
        try:
            answer = await node.sharing.dispatch(job)
            try:
                async for _ in answer:
                    if rng.random() < 0.1:
                        break
            finally:
                with trio.CancelScope(shield=True):
                    await answer.aclose()
            end = "ok"
        except RequestError as error:
            end = error.code
    ends.append(end)


async def trouble(engines: list[ScriptedEngine], rng: Random) -> None:
    for _ in range(15):
        await trio.sleep(rng.random() * 2)
        engine = rng.choice(engines)
        engine.refuse = rng.choice([None, None, EngineFailed("broken"), Overloaded("full", retry_after_s=1.0)])
        engine.script = rng.choice(SCRIPTS)


async def asker(where: World, engines: list[ScriptedEngine]) -> WorldNode:
    names = tuple(f"s{number}" for number in range(len(engines)))
    for name, engine in zip(names, engines, strict=True):
        await where.add(name, engine=engine)
    node = await where.add("asker", peers=names)
    for name in names:
        await node.until_reachable(set(names), model_of=name)
    return node


@pytest.mark.parametrize("seed", range(3))
async def test_every_request_ends_once_and_leaves_nothing(tmp_path: Path, autojump_clock: MockClock, seed: int) -> None:
    rng, ends = Random(seed), list[str]()
    engines = [ScriptedEngine("m", [1.0, EVENT, LAST], slots=3) for _ in range(3)]
    async with world(tmp_path) as where:
        node = await asker(where, engines)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble, engines, rng)
            for _ in range(REQUESTS):
                nursery.start_soon(one_request, node, rng, ends)
        await trio.sleep(70)
        await trio.testing.wait_all_tasks_blocked()
        assert len(ends) == REQUESTS
        assert [engine.running for engine in engines] == [0, 0, 0]
        assert node.dispatcher.running == 0
        assert all(record.outstanding == 0 for record in node.router.known.measurements.of("m").values())
        kept = [known.run.replay.held_bytes for known in node.sharing._keys._answered.values()]
        assert node.sharing._pool.held_bytes == sum(kept)
        assert all(entry.outcome is not None for entry in node.dispatcher.journal.recent(REQUESTS))
