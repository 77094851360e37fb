"""`meshnode up` as a process of its own: what it prints, what signals do to it, and two homes that become one mesh."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from meshnode.testing import Behaviour, FakeEngine
from tests.kit.waiting import PATIENCE_S

pytestmark = pytest.mark.real

MESHNODE = [sys.executable, "-m", "meshnode"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}


class Up:
    """One `meshnode up` on free ports of loopback. Leaving the block kills it."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.ready: dict[str, Any] = {}
        # An engine by its URL needs the usual choice of engines; every other test wants none.
        engines = () if "--engine-url" in arguments else ("--engines", "none")
        self._line = [*MESHNODE, "up", "--home", str(home), "--api", "127.0.0.1:0", "--mesh", "127.0.0.1:0"]
        self._line += [*engines, "--log-format", "json", *arguments]

    async def __aenter__(self) -> Up:
        self.process = await trio.lowlevel.open_process(self._line, stdout=subprocess.PIPE, env=ENVIRONMENT)
        assert self.process.stdout is not None
        self._lines = lines(self.process.stdout)
        self.ready = await self.event("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        with trio.CancelScope(shield=True):
            await self.process.wait()
            assert self.process.stdout is not None
            await self.process.stdout.aclose()

    async def event(self, name: str) -> dict[str, Any]:
        """Read standard output, where every line must be one JSON object, up to this event."""
        with trio.fail_after(PATIENCE_S):
            async for line in self._lines:
                said: dict[str, Any] = json.loads(line)
                assert isinstance(said, dict)
                if said.get("event") == name:
                    return said
        raise AssertionError(f"the node ended without saying {name}")

    async def ended(self) -> int:
        """The exit code."""
        with trio.fail_after(PATIENCE_S):
            return await self.process.wait()


class lines:
    """The lines of a pipe."""

    def __init__(self, pipe: trio.abc.ReceiveStream) -> None:
        self._pipe = pipe
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while b"\n" not in self._rest:
            data = await self._pipe.receive_some()
            if not data:
                raise StopAsyncIteration
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


async def meshnode(*arguments: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(PATIENCE_S):
        return await trio.run_process(
            [*MESHNODE, *arguments],
            stdin=given.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=ENVIRONMENT,
        )


async def status(home: Path) -> dict[str, Any]:
    told = await meshnode("status", "--json", "--home", str(home))
    assert told.returncode == 0, told.stderr.decode()
    document: dict[str, Any] = json.loads(told.stdout)
    return document


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_up_says_where_it_listens_and_a_signal_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    async with Up(tmp_path / "a", "--name", "studio") as node:
        seen = await status(node.home)
        assert seen["node"]["name"] == node.ready["name"] == "studio"
        assert seen["node"]["id"] == node.ready["node"]
        assert seen["api"] == node.ready["api"]
        assert seen["mesh"]["address"] == node.ready["mesh"]
        assert not node.ready["api"].endswith(":0")
        assert not node.ready["mesh"].endswith(":0")
        node.process.send_signal(number)
        assert await node.ended() == 0
    assert (await meshnode("status", "--home", str(tmp_path / "a"))).returncode == 1


async def test_a_node_keeps_its_id(tmp_path: Path) -> None:
    ids = set()
    for _ in range(2):
        async with Up(tmp_path / "a") as node:
            ids.add(node.ready["node"])
    assert len(ids) == 1


async def test_up_again_in_the_same_home_is_content(tmp_path: Path) -> None:
    async with Up(tmp_path / "a") as node:
        again = await meshnode("up", "--home", str(node.home), "--log-format", "json")
        assert again.returncode == 0
        assert json.loads(again.stdout) == {**node.ready, "event": "running"}


async def test_a_port_in_use_is_explained(tmp_path: Path) -> None:
    async with Up(tmp_path / "a") as node:
        for flag, address in (("--api", node.ready["api"].removeprefix("http://")), ("--mesh", node.ready["mesh"])):
            other = [
                "--home",
                str(tmp_path / "b"),
                "--engines",
                "none",
                "--api",
                "127.0.0.1:0",
                "--mesh",
                "127.0.0.1:0",
            ]
            refused = await meshnode("up", *other, flag, address)
            assert refused.returncode == 1
            message = refused.stderr.decode()
            assert f"{address} is in use by the meshnode with home {node.home}" in message
            assert f"up {flag} 127.0.0.1:0 --home {tmp_path / 'b'}" in message
            assert "Traceback" not in message


async def test_a_port_of_a_stranger_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        refused = await meshnode("up", "--home", str(tmp_path), "--engines", "none", "--mesh", "none", "--api", address)
    assert refused.returncode == 1
    assert f"(process {os.getpid()})" in refused.stderr.decode()


async def test_settings_that_make_no_sense_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[node]\ngrace_s = "long"\n[front]\nnonsense = 1\n')
    refused = await meshnode("up", "--home", str(tmp_path))
    assert refused.returncode == 1
    assert b"node.grace_s" in refused.stderr
    assert b"front.nonsense" in refused.stderr


@pytest.mark.parametrize("running", [True, False], ids=["running", "before up"])
async def test_an_invite_makes_two_homes_one_mesh(tmp_path: Path, running: bool) -> None:
    async with Up(tmp_path / "a", "--name", "first") as first:
        invite = await meshnode("invite", "--home", str(first.home))
        token = invite.stdout.decode()
        assert token.count("\n") == 1
        if running:
            async with Up(tmp_path / "b", "--name", "second") as second:
                await join(second.home, token)
                await both_see_each_other(first, second)
        else:
            await join(tmp_path / "b", token)
            async with Up(tmp_path / "b", "--name", "second") as second:
                await both_see_each_other(first, second)
        again = await meshnode("join", "-", "--home", str(tmp_path / "c"), given=token)
        assert again.returncode == 1
        assert b"Traceback" not in again.stderr


async def join(home: Path, token: str) -> None:
    joined = await meshnode("join", "-", "--home", str(home), given=token)
    assert joined.returncode == 0, joined.stderr.decode()
    assert joined.stdout.startswith(b"joined mesh")


async def both_see_each_other(first: Up, second: Up) -> None:
    for one, other in ((first, second), (second, first)):
        with trio.fail_after(PATIENCE_S):
            while True:
                peers = {peer["id"]: peer["state"] for peer in (await status(one.home))["peers"]}
                if peers == {other.ready["node"]: "direct"}:
                    break


async def asked(node: Up) -> trio.Process:
    """A client whose answer has begun."""
    line = [*MESHNODE, "run", "--home", str(node.home), "fake-model", "count"]
    client = await trio.lowlevel.open_process(line, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert client.stdout is not None
    with trio.fail_after(PATIENCE_S):
        assert await client.stdout.receive_some(2) == b"t0"
    return client


async def test_an_answer_in_flight_is_finished_after_the_first_signal(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        fake = FakeEngine(behaviour=Behaviour(tokens=20, token_s=0.05))
        await nursery.start(fake.run)
        async with Up(tmp_path / "a", "--engine-url", fake.url) as node:
            await node.event("settled")
            client = await asked(node)
            node.process.terminate()
            assert client.stdout is not None
            async with client.stdout as answer:
                rest = b"".join([data async for data in answer])
            assert rest.split()[-1] == b"t19"
            assert await client.wait() == 0
            assert await node.ended() == 0
        nursery.cancel_scope.cancel()


async def test_the_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        fake = FakeEngine(behaviour=Behaviour(tokens=4, hang="stream"))
        await nursery.start(fake.run)
        async with Up(tmp_path / "a", "--engine-url", fake.url) as node:
            await node.event("settled")
            client = await asked(node)
            node.process.terminate()
            await node.event("stopping")
            node.process.terminate()
            assert await node.ended() == 1
            assert await client.wait() == 1
            assert client.stdout is not None
            await client.stdout.aclose()
        nursery.cancel_scope.cancel()
