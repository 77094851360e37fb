"""What is held against a server, seen from the node that asked it: its breaker opens for failures and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import BadRequest, EngineFailed, Overloaded, RequestError
from tests.kit.world import EVENT, LAST, Script, ScriptedEngine, WorldNode, world

MODEL = "m"
TIMES = 6
"""One more than open a breaker."""


async def breaker_after(node: WorldNode, server: WorldNode) -> str:
    """The breaker's state once the server was asked often enough to open it."""
    for _ in range(TIMES):
        with contextlib.suppress(RequestError):
            await node.ask_whole(MODEL)
    return node.router.known.breakers.state(server.id, MODEL, trio.current_time())


@pytest.mark.parametrize(
    ("refusal", "state"),
    [
        (EngineFailed("broken"), "open"),
        (Overloaded("full", retry_after_s=1.0), "closed"),
        (BadRequest("no such grammar"), "closed"),
    ],
    ids=["broken", "full", "the client's fault"],
)
async def test_a_broken_server_is_left_alone_and_a_full_or_a_right_one_is_not(
    tmp_path: Path, autojump_clock: MockClock, refusal: RequestError, state: str
) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL, refuse=refusal))
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        assert await breaker_after(node, server) == state


@pytest.mark.parametrize(
    ("script", "state"),
    [([EVENT], "open"), ([EVENT, EngineFailed("aborted")], "open"), ([EVENT, LAST], "closed")],
    ids=["ends short", "aborts", "ends well"],
)
async def test_an_answer_that_breaks_after_a_good_head_counts_against_its_server(
    tmp_path: Path, autojump_clock: MockClock, script: Script, state: str
) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL, script))
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        assert await breaker_after(node, server) == state


async def test_clients_that_leave_count_against_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        server = await where.add("server", engine=ScriptedEngine(MODEL, [EVENT, 5.0, LAST]))
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        for _ in range(TIMES):
            answer = await node.ask(MODEL)
            await answer.aclose()
        assert node.router.known.breakers.state(server.id, MODEL, trio.current_time()) == "closed"


async def test_a_server_that_mended_is_believed_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """While it is open nothing is concluded from answers; then probes close it, one a second."""
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, refuse=EngineFailed("broken"))
        server = await where.add("server", engine=engine)
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        assert await breaker_after(node, server) == "open"
        engine.refuse = None
        assert await breaker_after(node, server) == "open"
        await trio.sleep(60.0)
        for _ in range(3):
            await node.ask_whole(MODEL)
            await trio.sleep(1.1)
        assert node.router.known.breakers.state(server.id, MODEL, trio.current_time()) == "closed"


async def test_an_error_in_place_of_a_whole_answer_is_asked_for_elsewhere(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        sick = ScriptedEngine(
            MODEL, [b'{"error": {"message": "out of memory", "code": 500}}'], content="application/json"
        )
        server = await where.add("server", engine=sick)
        node = await where.add("node", peers=("server",))
        await node.until_reachable({"server"}, model_of="server")
        with pytest.raises(EngineFailed, match="out of memory"):
            await node.ask_whole(MODEL)
        assert await breaker_after(node, server) == "open"
