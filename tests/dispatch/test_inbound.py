"""What a peer may ask of this node, and what it is told when it may not."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import inbound, remote, wire
from meshnode.dispatch.wire import envelope_of
from meshnode.errors import BadRequest, Draining, EngineFailed, Forbidden, LinkError, NoPeerReachable, RequestError
from meshnode.identity import Role
from meshnode.model.ids import NodeId
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, World, WorldNode, world

MODEL = "m"


async def linked(where: World, **settings: object) -> tuple[WorldNode, WorldNode]:
    server = await where.add("server", engine=ScriptedEngine(MODEL), settings={"mesh": settings})
    asker = await where.add("asker", peers=("server",))
    await asker.until_reachable({"server"}, model_of="server")
    return asker, server


async def send(asker: WorldNode, via: WorldNode, envelope: wire.Envelope, body: bytes) -> bytes:
    link = asker.member.link(via.id)
    assert link is not None
    answer = await remote.ask(link, envelope, body, asker.id, via.name, leases=asker.around.leases)
    return b"".join([chunk async for chunk in answer])


async def refused(asker: WorldNode, via: WorldNode, envelope: wire.Envelope, body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await send(asker, via, envelope, body)
    return caught.value


async def test_the_same_attempt_is_served_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        job = asker.job(MODEL)
        envelope = envelope_of(job, 1, server.id, trio.current_time())
        assert await send(asker, server, envelope, job.body) == EVENT + LAST
        assert "been here before" in str(await refused(asker, server, envelope, job.body))
        again = dataclasses.replace(envelope, attempt=2)
        assert await send(asker, server, again, job.body) == EVENT + LAST


async def test_a_path_that_names_somebody_else_last_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        job = asker.job(MODEL)
        envelope = envelope_of(job, 1, server.id, trio.current_time())
        link = asker.member.link(server.id)
        assert link is not None
        stranger = type(server.id)(b"s" * 32)
        forged = dataclasses.replace(envelope, origin=stranger)
        with pytest.raises(BadRequest, match="does not end with the node that sent it"):
            await remote.ask(link, forged, job.body, stranger, "server", leases=asker.around.leases)


async def test_a_job_that_comes_back_is_a_loop(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        job = asker.job(MODEL)
        looped = dataclasses.replace(
            envelope_of(job, 1, server.id, trio.current_time()), origin=server.id, path=(server.id,)
        )
        error = await refused(asker, server, looped, job.body)
        assert isinstance(error, NoPeerReachable) and "loop" in error.message


async def test_a_target_nobody_reaches_is_refused_by_name(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        job = asker.job(MODEL)
        envelope = envelope_of(job, 1, type(server.id)(b"x" * 32), trio.current_time())
        assert isinstance(await refused(asker, server, envelope, job.body), NoPeerReachable)


async def test_a_node_that_does_not_relay_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where, relay=False)
        job = asker.job(MODEL)
        envelope = envelope_of(job, 1, type(server.id)(b"x" * 32), trio.current_time())
        assert "does not relay" in (await refused(asker, server, envelope, job.body)).message


async def test_a_draining_node_takes_nothing_new(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        server.local.draining = True
        job = asker.job(MODEL)
        error = await refused(asker, server, envelope_of(job, 1, server.id, trio.current_time()), job.body)
        assert isinstance(error, Draining) and error.elsewhere


async def test_headers_that_make_no_sense_are_refused_and_harm_nobody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        link = asker.member.link(server.id)
        assert link is not None
        stream = await link.request([(":method", "POST"), (":scheme", "mesh"), (":authority", "x"), (":path", "/v1/x")])
        head = await stream.head()
        assert head[":status"] == "400" and head[wire.ERROR] == "invalid_request"
        assert (await asker.ask_whole(MODEL))[1] == EVENT + LAST


async def test_a_body_that_is_no_request_is_the_clients_fault(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        envelope = envelope_of(asker.job(MODEL), 1, server.id, trio.current_time())
        assert isinstance(await refused(asker, server, envelope, b"{"), BadRequest)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [([EVENT, LAST], "ok"), ([EVENT, 1e6], "cancelled"), ([EVENT, EngineFailed("died")], "engine_failed")],
)
async def test_jobs_are_counted_by_how_they_ended(
    tmp_path: Path, autojump_clock: MockClock, script: list[bytes | float | Exception], outcome: str
) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL, script))
        asker = await where.add("asker", peers=("server",))
        await asker.until_reachable({"server"}, model_of="server")
        with trio.move_on_after(5), suppress(RequestError):
            answer = await asker.ask(MODEL)
            try:
                async for _ in answer:
                    pass
            finally:
                await answer.aclose()
        await server.inbound.drained()
        counted = server.inbound._around.metrics.render().decode()
        assert f'meshnode_served_total{{kind="serve",outcome="{outcome}"}} 1.0' in counted


async def test_what_one_peers_requests_hold_together_is_bounded(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound, "HELD_BYTES", 2 << 20)
    async with world(tmp_path) as where:
        asker, server = await linked(where)
        link = asker.member.link(server.id)
        assert link is not None
        most = 1 << 20
        streams = []
        for _ in range(3):
            envelope = envelope_of(asker.job(MODEL), 1, server.id, trio.current_time())
            stream = await link.request(wire.write(envelope, asker.id), end=False)
            streams.append(stream)
            with trio.move_on_after(5), contextlib.suppress(LinkError):
                await stream.send(b"x" * (most - 10))
        # Whichever was being read when the bound was met is refused; the others wait for their rest.
        heads = []
        for stream in streams:
            with trio.move_on_after(5):
                heads.append(await stream.head())
        assert [(head[":status"], head[wire.ERROR]) for head in heads] == [("429", "overloaded")]
        for stream in streams:
            stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert (await asker.ask_whole(MODEL))[1] == EVENT + LAST


class Asking:
    """A peer's stream: `size` bytes of body, which end or do not, and no credit for an answer."""

    def __init__(self, envelope: wire.Envelope, sender: WorldNode, size: int, ends: bool) -> None:
        self._head = dict(wire.write(envelope, sender.id))
        self._left, self._ends = size, ends
        self.said = False

    def beat(self, place: int = 0) -> None:
        """Nobody listens."""

    async def head(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return self._head

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._left and not self._ends:
            await trio.sleep_forever()
        size = min(self._left, 1 << 16)
        self._left -= size
        return b"x" * size

    async def send_head(self, headers: wire.Headers) -> None:
        await trio.sleep_forever()


@contextmanager
def kept_bytes() -> Iterator[Callable[[], int]]:
    """What was allocated in the block and is not free yet, without the garbage collector's help."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()


JOBS, JOB_BYTES = 32, 1 << 19


@pytest.mark.parametrize(
    ("changed", "ends", "most_bytes"),
    [
        ({}, True, 0),
        ({"remaining_s": 1.0}, False, 0),
        ({"target": NodeId(b"x" * 32)}, True, 0),
        ({"target": NodeId(b"x" * 32), "free": True}, True, 0),
        ({}, False, 1 << 20),
    ],
    ids=["no request", "too slow", "no path", "no choice", "too much"],
)
@pytest.mark.parametrize("relay", [True, False], ids=["relay", "no relay"])
async def test_a_refused_job_leaves_no_body_behind_while_nobody_takes_the_refusal(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any], ends: bool, most_bytes: int, relay: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(inbound, "HELD_BYTES", 1 << 20)
    async with world(tmp_path) as where:
        asker, server = await linked(where, relay=relay)
        link = server.member.link(asker.id)
        assert link is not None
        async with trio.open_nursery() as nursery:
            with kept_bytes() as kept:
                for _ in range(JOBS):
                    sent = envelope_of(asker.job(MODEL), 1, server.id, trio.current_time())
                    stream = Asking(dataclasses.replace(sent, **changed), asker, JOB_BYTES, ends)
                    nursery.start_soon(server.inbound.serve, link, stream)
                    await trio.testing.wait_all_tasks_blocked()
                await trio.sleep(2)
                assert server.inbound.running == JOBS
                assert sum(server.inbound._held.values()) <= most_bytes
                assert kept() < most_bytes + JOBS * JOB_BYTES // 8
            nursery.cancel_scope.cancel()


async def test_a_job_of_whom_no_certificate_makes_a_client_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL))
        asker = await where.add("asker", peers=("server",), papers=Papers(roles=(Role.RELAY, Role.SERVE)))
        await asker.until_reachable({"server"}, model_of="server")
        await server.until_reachable({"asker"})
        job = asker.job(MODEL)
        error = await refused(asker, server, envelope_of(job, 1, server.id, trio.current_time()), job.body)
        assert isinstance(error, Forbidden) and "asker" in error.message and "role client" in error.message


async def test_the_jobs_of_others_come_only_through_who_may_relay(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL))
        through = await where.add("through", peers=("server",), papers=Papers(roles=(Role.CLIENT, Role.SERVE)))
        origin = await where.add("origin", peers=("server",))
        await server.until_reachable({"through", "origin"})
        job = origin.job(MODEL)
        sent = envelope_of(job, 1, server.id, trio.current_time())
        passed_on = dataclasses.replace(sent, path=(origin.id,))
        link = through.member.link(server.id)
        assert link is not None
        with pytest.raises(Forbidden, match="through may not pass on"):
            await remote.ask(link, passed_on, job.body, through.id, "server", leases=through.around.leases)
