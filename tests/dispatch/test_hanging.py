"""Servers that say nothing, or that hang: another one is asked in time, and who is only slow is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.net import LinkStream
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

MODEL = "m"
HANGS = [10_000.0, LAST]


async def asker(where: World, *, hang_known_s: float = 60.0, **engines: ScriptedEngine) -> WorldNode:
    """Who asks the servers of these names, and never hedges; usually no sooner than where nothing is known of them."""
    for name, engine in engines.items():
        await where.add(name, engine=engine)
    settings = {"dispatch": {"hedge_share": 0.0, "hang_known_s": hang_known_s}}
    node = await where.add("asker", peers=tuple(engines), settings=settings)
    for name in engines:
        await node.until_reachable(set(engines), model_of=name)
    return node


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_of_which_nothing_is_heard_costs_three_seconds(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(LinkStream, "beat", lambda stream, place=0: None)
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, list(HANGS))
        node = await asker(where, bad=bad, good=ScriptedEngine(MODEL))
        while not bad.served:
            began = trio.current_time()
            answer, body = await node.ask_whole(MODEL, stream=stream, timeout_s=600.0)
            took_s = trio.current_time() - began
            assert body == EVENT + LAST and answer.headers["x-meshnode-node"] == "good"
            await trio.sleep(2.0)
        assert 2.0 <= took_s <= 3.0
        assert "said nothing" in answer.headers["x-meshnode-reason"]
        with trio.fail_after(1.0):
            await bad.until(running=0)


async def test_a_server_that_hangs_though_its_node_lives_is_tried_elsewhere_and_blamed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, list(HANGS))
        node = await asker(where, bad=bad, good=ScriptedEngine(MODEL))
        while not bad.served:
            began = trio.current_time()
            _, body = await node.ask_whole(MODEL, timeout_s=600.0)
            took_s = trio.current_time() - began
            assert body == EVENT + LAST
            await trio.sleep(2.0)
        assert 10.0 <= took_s <= 30.0


async def test_a_server_of_a_model_that_others_answer_within_moments_is_doubted_as_soon_as_they(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, list(HANGS))
        good = ScriptedEngine(MODEL)
        node = await asker(where, hang_known_s=1.2, bad=bad, good=good)
        while not (bad.served and good.served):
            began, known = trio.current_time(), bool(good.served)
            _, body = await node.ask_whole(MODEL, timeout_s=600.0)
            took_s = trio.current_time() - began
            assert body == EVENT + LAST
            if bad.served and not known:
                # It was the first of all: nothing was known of anybody.
                bad.served = 0
            await trio.sleep(2.0)
        assert 1.2 <= took_s <= 1.5


async def test_a_client_with_less_time_gets_its_answer_within_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, list(HANGS))
        node = await asker(where, bad=bad, good=ScriptedEngine(MODEL))
        while not bad.served:
            _, body = await node.ask_whole(MODEL, timeout_s=8.0)
            assert body == EVENT + LAST
            await trio.sleep(2.0)


async def test_a_prefill_of_minutes_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        one, two = (ScriptedEngine(MODEL, [300.0, EVENT, LAST]) for _ in range(2))
        node = await asker(where, one=one, two=two)
        began = trio.current_time()
        _, body = await node.ask_whole(MODEL, timeout_s=3000.0)
        assert body == EVENT + LAST
        assert 300.0 <= trio.current_time() - began <= 301.0
