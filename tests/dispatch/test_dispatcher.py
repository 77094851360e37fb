"""A request across nodes: tried elsewhere before its first byte, honest after it, and gone when its client is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineFailed,
    ModelNotFound,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
)
from meshnode.net import Link, LinkStream
from meshnode.observe import log
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

MODEL = "m"


async def pair(where: World, engine: ScriptedEngine) -> tuple[WorldNode, WorldNode]:
    """A node that serves, and one that asks it over a link."""
    server = await where.add("server", engine=engine)
    asker = await where.add("asker", peers=("server",))
    await asker.until_reachable({"server"}, model_of="server")
    return server, asker


async def row(where: World, engine: ScriptedEngine) -> tuple[WorldNode, WorldNode, WorldNode]:
    """Asker, relay, server: neither end accepts links, so that only the relay joins them."""
    relay = await where.add("relay")
    server = await where.add("server", peers=("relay",), engine=engine, listens=False)
    asker = await where.add("asker", peers=("relay",), listens=False)
    await asker.until_reachable({"relay", "server"}, model_of="server")
    return asker, relay, server


async def test_this_nodes_own_engine_is_asked_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        near, far = ScriptedEngine(MODEL), ScriptedEngine(MODEL)
        await where.add("far", engine=far)
        node = await where.add("near", peers=("far",), engine=near)
        await node.until_reachable({"far"}, model_of="far")
        answer, body = await node.ask_whole(MODEL)
        assert body == EVENT + LAST
        assert answer.headers["x-meshnode-path"] == "near"
        assert (near.served, far.served) == (1, 0)


async def test_a_relay_passes_bytes_and_the_headers_name_the_path(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1.0, EVENT, LAST])
        asker, relay, server = await row(where, engine)
        answer, body = await asker.ask_whole(MODEL)
        assert body == EVENT + EVENT + LAST
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-meshnode-path"] == "asker > relay > server"
        assert answer.headers["x-meshnode-attempts"] == "1"
        await engine.until(running=0)
        assert (engine.cut, relay.inbound.running, server.inbound.running) == (0, 0, 0)


@pytest.mark.parametrize(
    "failure", [EngineFailed("broken"), Overloaded("full", retry_after_s=1.0)], ids=lambda e: e.code
)
async def test_a_failure_before_the_first_byte_is_tried_elsewhere(
    tmp_path: Path, autojump_clock: MockClock, failure: RequestError
) -> None:
    async with world(tmp_path) as where:
        bad, good = ScriptedEngine(MODEL, refuse=failure), ScriptedEngine(MODEL)
        await where.add("other", engine=good)
        node = await where.add("node", peers=("other",), engine=bad)
        await node.until_reachable({"other"}, model_of="other")
        answer, body = await node.ask_whole(MODEL)
        assert body == EVENT + LAST
        assert answer.headers["x-meshnode-node"] == "other"
        assert answer.headers["x-meshnode-attempts"] == "2"
        assert (bad.served, good.served) == (1, 1)


async def test_what_the_client_did_wrong_is_not_tried_elsewhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        bad, good = ScriptedEngine(MODEL, refuse=BadRequest("no such grammar", param="grammar")), ScriptedEngine(MODEL)
        await where.add("first", engine=bad)
        node = await where.add("node", peers=("first",))
        await node.until_reachable({"first"}, model_of="first")
        with pytest.raises(BadRequest, match="no such grammar") as caught:
            await node.ask(MODEL)
        assert caught.value.param == "grammar"
        assert (bad.served, good.served) == (1, 0)


async def test_the_servers_node_dies_before_the_first_byte_and_another_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        hanging = ScriptedEngine(MODEL, [1000.0, LAST])
        await where.add("hanging", engine=hanging)
        node = await where.add("node", peers=("hanging",))
        await node.until_reachable({"hanging"}, model_of="hanging")
        spare = ScriptedEngine(MODEL)
        await where.add("spare", peers=("hanging",), engine=spare)
        await node.until_reachable({"hanging", "spare"}, model_of="spare")
        answers: list[str] = []

        async def ask() -> None:
            answer, _ = await node.ask_whole(MODEL)
            answers.append(answer.headers["x-meshnode-node"])

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)
            await hanging.until_busy()
            await where.kill("hanging")
        assert answers == ["spare"] * 6
        assert hanging.served > 0


async def test_the_servers_node_dies_mid_stream_and_the_answer_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        asker, _, _ = await row(where, ScriptedEngine(MODEL, [EVENT, 1000.0, LAST]))
        answer = await asker.ask(MODEL)
        assert await answer.__anext__() == EVENT
        await where.kill("server")
        with pytest.raises(PeerFailed, match="server"):
            await answer.__anext__()
        assert asker.dispatcher.running == 0


async def test_an_engine_that_stops_short_is_a_failure_and_not_an_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        asker, _, _ = await row(where, ScriptedEngine(MODEL, [EVENT]))
        answer = await asker.ask(MODEL)
        with pytest.raises(EngineFailed, match="before it said it was done"):
            async for _ in answer:
                pass


@pytest.mark.parametrize("script", [[1000.0, LAST], [EVENT, 1000.0, LAST]], ids=["before", "after"])
async def test_a_client_that_leaves_frees_the_engine_across_two_hops(
    tmp_path: Path, autojump_clock: MockClock, script: list[bytes | float | Exception]
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, script)
        asker, relay, server = await row(where, engine)

        async def ask() -> None:
            await asker.ask_whole(MODEL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await engine.until(running=1)
            nursery.cancel_scope.cancel()
        with trio.fail_after(1.0):
            await engine.until(running=0)
        await trio.testing.wait_all_tasks_blocked()
        assert engine.cut == 1
        assert [node.inbound.running for node in (relay, server)] == [0, 0]
        assert asker.dispatcher.running == 0


async def test_an_answer_that_is_closed_frees_the_engine(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1000.0, LAST])
        asker, _, _ = await row(where, engine)
        answer = await asker.ask(MODEL)
        await answer.aclose()
        with trio.fail_after(1.0):
            await engine.until(running=0)
        assert asker.dispatcher.running == 0


async def test_a_deadline_ends_the_wait_for_the_first_byte_everywhere(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [1000.0, LAST])
        asker, _, _ = await row(where, engine)
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded) as caught:
            await asker.ask(MODEL, timeout_s=3.0)
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.5)
        assert caught.value.phase == "first_token"
        with trio.fail_after(1.0):
            await engine.until(running=0)


async def test_a_stream_that_falls_silent_is_ended_with_its_own_error(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1e6, LAST])
        await where.add("server", engine=engine)
        asker = await where.add("asker", peers=("server",), settings={"dispatch": {"silence_s": 20.0}})
        await asker.until_reachable({"server"}, model_of="server")
        answer = await asker.ask(MODEL, timeout_s=86_400)
        await answer.__anext__()
        with pytest.raises(DeadlineExceeded) as caught:
            await answer.__anext__()
        assert caught.value.phase == "silence"


async def test_unknown_models_get_a_hint_and_unreachable_ones_a_reason(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        _, asker = await pair(where, ScriptedEngine("llama3.2:3b"))
        with pytest.raises(ModelNotFound, match=r"llama3\.2:3b"):
            await asker.ask("lama3.2:3b")
        await where.kill("server")
        await asker.until_reachable(set())
        with pytest.raises(NoPeerReachable, match="server"):
            await asker.ask("llama3.2:3b")


async def test_an_unstreamed_answer_that_breaks_is_not_retried_after_its_first_byte(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [b'{"choices":', EngineFailed("gone")])
        _, asker = await pair(where, engine)
        with pytest.raises(EngineFailed):
            await asker.ask_whole(MODEL, stream=False)
        assert engine.served == 1


async def test_full_slots_queue_and_a_full_queue_refuses(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [5.0, EVENT, LAST], slots=1)
        node = await where.add("node", engine=engine, settings={"engine": {"queue_min": 2}})
        outcomes: list[str] = []

        async def ask() -> None:
            try:
                await node.ask_whole(MODEL, timeout_s=1000)
                outcomes.append("ok")
            except Overloaded as error:
                outcomes.append("full" if error.retry_after_s else "full, and no word on when to come back")

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
        assert sorted(outcomes) == ["full", "full", "ok", "ok", "ok"]
        assert engine.running == 0


async def test_a_request_id_that_a_client_uses_again_is_answered_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        _, asker = await pair(where, ScriptedEngine(MODEL))
        job = asker.job(MODEL)
        for _ in range(2):
            answer = await asker.dispatcher.dispatch(job)
            assert b"".join([chunk async for chunk in answer]) == EVENT + LAST


async def test_an_answer_that_never_falls_silent_still_ends_with_its_deadline(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, *([5.0, EVENT] * 100), LAST])
        _, asker = await pair(where, engine)
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded) as caught:
            await asker.ask_whole(MODEL, timeout_s=20.0)
        assert caught.value.phase == "total"
        assert 20.0 <= trio.current_time() - began <= 22.0
        await engine.until(running=0)


@pytest.mark.parametrize("status", ["abc", "999", "101", "\N{SUPERSCRIPT TWO}00"])
async def test_a_status_that_is_none_is_the_peers_failure(
    tmp_path: Path, autojump_clock: MockClock, status: str
) -> None:
    async with world(tmp_path) as where:
        server, asker = await pair(where, ScriptedEngine(MODEL))
        server.inbound.serve = _saying([(":status", status)])  # type: ignore[method-assign]
        with pytest.raises(PeerFailed):
            await asker.ask(MODEL)


async def test_a_peer_gives_a_client_no_headers_of_its_own_choice(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        server, asker = await pair(where, ScriptedEngine(MODEL))
        said = [(":status", "200"), ("content-type", "text/plain"), ("refresh", "0;url=http://evil.example")]
        server.inbound.serve = _saying(said)  # type: ignore[method-assign]
        answer = await asker.ask(MODEL)
        assert answer.headers["content-type"] == "text/plain"
        assert "refresh" not in answer.headers
        await answer.aclose()


async def test_what_an_engine_says_when_it_fails_is_not_logged(tmp_path: Path, autojump_clock: MockClock) -> None:
    """llama-server quotes the messages that it could not parse."""
    lines = StringIO()
    log.configure("json", "debug", lines)
    try:
        async with world(tmp_path) as where:
            _, asker = await pair(where, ScriptedEngine(MODEL, refuse=EngineFailed("cannot parse: a canary sang")))
            with pytest.raises(EngineFailed, match="canary"):
                await asker.ask(MODEL)
    finally:
        log.configure()
    assert "a server did not answer" in lines.getvalue()
    assert "canary" not in lines.getvalue()


def _saying(head: list[tuple[str, str]]) -> Callable[[Link, LinkStream], Awaitable[None]]:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(head)
        await stream.send(b"{}")
        await stream.finish([("meshnode-done", "1")])

    return serve
