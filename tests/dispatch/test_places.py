"""The place of a request that waits in another node's queue: told by beats, hop by hop, and shown to its client."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.journal import Journal, report
from meshnode.model.job import Job, Privacy
from tests.kit.world import EVENT, LAST, ScriptedEngine, WorldNode, world
from tests.routing.build import job, node, star

MODEL = "m"


@pytest.mark.parametrize("privacy", [None, *Privacy], ids=["direct", "open", "sealed"])
async def test_the_place_comes_back_over_every_way_and_moves_up(
    tmp_path: Path, autojump_clock: MockClock, privacy: Privacy | None
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [20.0, EVENT, LAST], slots=1)
        if privacy is not None:
            await where.add("relay")
        server = await where.add("server", peers=("relay",) if privacy else (), engine=engine, listens=not privacy)
        asker = await where.add("asker", peers=("relay",) if privacy else ("server",), listens=not privacy)
        await asker.until_reachable({"server", "relay"} if privacy else {"server"}, model_of="server")
        jobs = [asker.job(MODEL, timeout_s=200.0, privacy=privacy) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for one in jobs:
                nursery.start_soon(ask, asker, one)
                await trio.sleep(0.01)
            await trio.sleep(5.0)
            assert [asker.dispatcher.place(one.id) for one in jobs] == [0, 1, 2]
            assert asker.dispatcher.journal.waiting() == 2
            await trio.sleep(20.0)
            assert [asker.dispatcher.place(one.id) for one in jobs] == [0, 0, 1]
        found = asker.dispatcher.journal.find(jobs[2].id)
        assert found is not None
        told = report(found, asker.member.view(), trio.current_time())
        assert ("queued", server.name, "place 2") in [(s["event"], s["node"], s["detail"]) for s in told["timeline"]]
        assert told["place"] is None


async def ask(asker: WorldNode, one: Job) -> None:
    answer = await asker.dispatcher.dispatch(one)
    assert b"".join([chunk async for chunk in answer]) == EVENT + LAST


def test_of_several_attempts_the_best_place_counts_and_one_that_is_over_has_none() -> None:
    journal = Journal(4, 1 << 20)
    entry = journal.begin(job(), 0.0)
    journal.keep(entry)
    entry.placed(1.0, 1, node(1), 5)
    entry.placed(1.0, 2, node(2), 3)
    entry.placed(2.0, 1, node(1), 4)
    assert (entry.place, journal.waiting()) == (3, 1)
    entry.note(3.0, "failed", 2, node(2), "engine_failed")
    assert entry.place == 4
    entry.placed(4.0, 1, node(1), 0)
    assert entry.place == 0
    entry.placed(5.0, 1, node(1), 2)
    entry.ended(6.0, "ok")
    assert (entry.place, journal.waiting()) == (0, 0)
    shown = report(entry, star(3), 9.0)
    queued = [(step["attempt"], step["detail"]) for step in shown["timeline"] if step["event"] == "queued"]
    assert queued == [(1, "place 5"), (2, "place 3"), (1, "place 2")]
    assert round(sum(step["for_s"] for step in shown["timeline"]), 6) == shown["total_s"] == 6.0
