"""Jobs across nodes of which nothing is heard, that come twice, or that are followed by a newer attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import remote
from meshnode.dispatch.wire import envelope_of
from meshnode.errors import FirstTokenTimedOut, LeaseExpired, Superseded
from meshnode.model.job import Privacy
from meshnode.net import LinkStream
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

MODEL = "m"


async def row(where: World, engine: ScriptedEngine) -> tuple[WorldNode, WorldNode, WorldNode]:
    relay = await where.add("relay")
    server = await where.add("server", peers=("relay",), engine=engine, listens=False)
    asker = await where.add("asker", peers=("relay",), listens=False)
    await asker.until_reachable({"relay", "server"}, model_of="server")
    return asker, relay, server


@pytest.mark.parametrize("privacy", list(Privacy))
async def test_a_long_prefill_two_hops_away_keeps_its_lease(
    tmp_path: Path, autojump_clock: MockClock, privacy: Privacy
) -> None:
    async with world(tmp_path) as where:
        asker, *others = await row(where, ScriptedEngine(MODEL, [100.0, EVENT, 100.0, LAST]))
        _, body = await asker.ask_whole(MODEL, timeout_s=1000.0, privacy=privacy)
        assert body == EVENT + LAST
        assert not any(len(node.around.leases) for node in (asker, *others))


@pytest.mark.parametrize("privacy", list(Privacy))
@pytest.mark.parametrize("script", [[1000.0, LAST], [EVENT, 1000.0, LAST]], ids=["before", "after"])
async def test_a_server_of_which_nothing_is_heard_loses_the_lease_and_the_slot(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch,
    privacy: Privacy, script: list[bytes | float | Exception],
) -> None:  # fmt: skip
    monkeypatch.setattr(LinkStream, "beat", lambda stream, place=0: None)
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, script)
        asker, *_ = await row(where, engine)
        with pytest.raises(LeaseExpired, match="nothing was heard of it for 15 s"):
            await asker.ask_whole(MODEL, timeout_s=900.0, privacy=privacy)
        with trio.fail_after(1.0):
            await engine.until(running=0)


async def test_a_newer_attempt_stops_the_older_and_a_second_copy_joins_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [5.0, EVENT, 5.0, LAST])
        server = await where.add("server", engine=engine)
        asker = await where.add("asker", peers=("server",))
        await asker.until_reachable({"server"}, model_of="server")
        job, link = asker.job(MODEL), asker.member.link(server.id)
        assert link is not None
        told: list[bytes] = []

        async def send(attempt: int) -> None:
            envelope = envelope_of(job, attempt, server.id, trio.current_time())
            answer = await remote.ask(link, envelope, job.body, asker.id, "server", leases=asker.around.leases)
            told.append(b"".join([chunk async for chunk in answer]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_superseded, send)
            await engine.until_busy()
            nursery.start_soon(send, 2)
            await trio.sleep(1)
            nursery.start_soon(send, 2)
        assert told == [EVENT + LAST] * 2
        assert (engine.served, engine.cut, len(server.inbound._runs)) == (2, 1, 0)


async def _superseded(send: object) -> None:
    with pytest.raises(Superseded):
        await send(1)  # type: ignore[operator]


async def test_a_server_gives_up_by_itself_what_its_asker_forgot(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [1e6, LAST])
        server = await where.add("server", engine=engine, settings={"dispatch": {"first_token_s": 50.0}})
        asker = await where.add("asker", peers=("server",))
        await asker.until_reachable({"server"}, model_of="server")
        with pytest.raises(FirstTokenTimedOut, match="no first token after 50 s"):
            await asker.ask(MODEL, timeout_s=3000.0)
        with trio.fail_after(1.0):
            await engine.until(running=0)
        assert server.inbound.running == 0
