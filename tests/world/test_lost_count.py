"""A home whose count of starts was lost, and a home that was copied: the first is a node like any other, of the second
everybody learns that two machines run with one key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import ScriptedEngine, World, WorldNode, world

MODEL = "m"
OTHERS = ("n0", "n1", "n2")
FAR_AHEAD = b"9000000000\n"
"""Later than any clock, so that no clock makes up for what was lost."""


async def three_and(where: World, name: str) -> WorldNode:
    for other in OTHERS:
        await where.add(other, peers=() if other == "n0" else ("n0",))
    return await start(where, name)


async def start(where: World, name: str, peers: tuple[str, ...] = ("n0",)) -> WorldNode:
    node = await where.add(name, peers=peers, engine=ScriptedEngine(MODEL))
    with trio.fail_after(5.0):
        await node.until_reachable(set(OTHERS))
        for other in OTHERS:
            await where.nodes[other].until_reachable({*OTHERS, name} - {other}, model_of=name)
    return node


async def lives_from(where: World, counted: bytes) -> tuple[Path, int]:
    """n3 has lived once with that count; it is off. Its counter, and what it counted."""
    node = await three_and(where, "n3")
    await where.kill("n3")
    counter = node.home.path / "incarnation"
    counter.write_bytes(counted)
    node = await start(where, "n3")
    await trio.sleep(3.0)
    await where.kill("n3")
    return counter, int(counter.read_bytes())


@pytest.mark.parametrize("lost", ["deleted", "restored"])
@pytest.mark.parametrize("away_s", [0.0, 400.0])
async def test_who_lost_count_of_its_starts_comes_back_and_serves(
    tmp_path: Path, autojump_clock: MockClock, lost: str, away_s: float
) -> None:
    async with world(tmp_path) as where:
        counter, counted = await lives_from(where, FAR_AHEAD)
        if lost == "deleted":
            counter.unlink()
        else:
            counter.write_bytes(FAR_AHEAD)
        await trio.sleep(away_s)
        back = await start(where, "n3")
        await trio.sleep(30.0)
        for other in OTHERS:
            node = where.nodes[other]
            assert node.reachable() == {*OTHERS, "n3"} - {other}
            assert node.member.mesh.gossiper.counts["convicted"] == 0
            _, body = await node.ask_whole(MODEL)
            assert body.endswith(b"data: [DONE]\n\n")
        told = where.nodes["n1"].member.view().adverts[back.id].incarnation
        assert told == int(counter.read_bytes()), "what others know of it is kept"
        assert told > counted


async def test_a_lone_node_that_lost_count_waits_for_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        alone = await where.add("alone", engine=ScriptedEngine(MODEL))
        await where.kill("alone")
        (alone.home.path / "incarnation").unlink()
        began = trio.current_time()
        alone = await where.add("alone", engine=ScriptedEngine(MODEL))
        _, body = await alone.ask_whole(MODEL)
        assert body.endswith(b"data: [DONE]\n\n")
        assert alone.id in alone.member.mesh.gossiper.adverts()
        assert trio.current_time() == began


async def test_a_home_that_was_copied_and_runs_twice_is_put_aside_by_all(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        first = await three_and(where, "n3")
        shutil.copytree(first.home.path, tmp_path / "twin")
        twin = await where.add("twin", peers=("n1",), engine=ScriptedEngine(MODEL))
        assert twin.id == first.id
        with trio.fail_after(15.0):
            for other in OTHERS:
                await where.nodes[other].until_reachable(set(OTHERS) - {other})
        await trio.sleep(60.0)
        for other in OTHERS:
            node = where.nodes[other]
            assert first.id not in node.member.view().adverts
            assert node.member.mesh.gossiper.counts["convicted"] == 1
        assert any(mine.member.mesh.gossiper.counts["convicted"] for mine in (first, twin)), "its owner can read why"
