"""The life of `up` around a stand-in for the node: what is said, and what signals do. Real nodes: tests/real."""

from __future__ import annotations

import errno
import io
import json
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from typer.testing import CliRunner

from meshnode.cli import holder, place, say, up
from meshnode.cli.app import app
from meshnode.cli.voice import Lines
from meshnode.config import Config
from meshnode.errors import StartError
from tests.cli.conftest import DONE, STATUS, FakeDaemon, piece


class StandIn:
    """A node whose engine loads until `settled` is set and whose drain lasts until `drained` is."""

    def __init__(self, status: dict[str, Any] = STATUS) -> None:
        self.facts = status
        self.settled = trio.Event()
        self.drained = trio.Event()
        self.left = ""

    async def __aenter__(self) -> StandIn:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left = "by force"
        await self.drained.wait()
        self.left = "drained"

    def status(self) -> dict[str, Any]:
        return self.facts

    async def engines_settled(self) -> None:
        await self.settled.wait()


class Busy(StandIn):
    async def __aenter__(self) -> StandIn:
        raise StartError("the address is in use")


class Said(io.StringIO):
    """Where events are written, and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: defaultdict[str, trio.Event] = defaultdict(trio.Event)

    def write(self, text: str) -> int:
        self.heard[json.loads(text)["event"]].set()
        return super().write(text)


def launch(hello: bool = False) -> up.Launch:
    return up.Launch(None, {}, json=True, level="info", hello=hello)


async def serve(node: StandIn, out: io.StringIO, *steps: Callable[[], object], hello: bool = False) -> int:
    """Serve, take one step after another at rest, and return the exit code."""
    code: list[int] = []

    async def run() -> None:
        code.append(await up._serve(cast(Any, node), Lines(say.Steady(out)), launch(hello), 120.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for step in steps:
            await trio.testing.wait_all_tasks_blocked()
            step()
    return code[0]


def term() -> None:
    signal.raise_signal(signal.SIGTERM)


def events(out: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_drains_and_ends_well(number: signal.Signals) -> None:
    node, out = StandIn(), io.StringIO()
    assert await serve(node, out, lambda: signal.raise_signal(number), node.drained.set) == 0
    assert node.left == "drained"
    assert events(out) == ["ready", "engine", "stopping"]


async def test_the_second_signal_does_not_wait_for_the_drain() -> None:
    node, out = StandIn(), io.StringIO()
    assert await serve(node, out, term, term) == up.ENDED_BY_FORCE
    assert node.left == "by force"


async def test_engines_are_told_of_when_they_change_and_when_they_have_settled() -> None:
    node, out = StandIn(), io.StringIO()
    node.drained.set()
    await serve(node, out, node.settled.set, term)
    assert events(out) == ["ready", "engine", "settled", "stopping"]


async def test_models_that_come_after_the_engines_have_settled_are_told_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node, out = StandIn({**STATUS, "models": []}), Said()
    node.settled.set()
    node.drained.set()

    async def meet_and_stop() -> None:
        await out.heard["settled"].wait()
        node.facts = STATUS
        await out.heard["models"].wait()
        term()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meet_and_stop)
        await up._serve(cast(Any, node), Lines(say.Steady(out)), launch(), 120.0)
    assert events(out) == ["ready", "engine", "settled", "models", "stopping"]


async def test_a_node_that_cannot_start_is_its_own_error() -> None:
    with pytest.raises(StartError):
        await up._serve(cast(Any, Busy()), Lines(say.Steady(io.StringIO())), launch(), 120.0)


async def test_hello_asks_the_first_model_through_the_nodes_endpoint(daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/v1/chat/completions", piece(content="Hello!") + DONE)
    node, out = StandIn({**STATUS, "api": daemon.api}), Said()
    node.drained.set()
    node.settled.set()

    async def stop_when_answered() -> None:
        await out.heard["answered"].wait()
        term()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_answered)
        with trio.fail_after(60):
            await up._serve(cast(Any, node), Lines(say.Steady(out)), launch(hello=True), 120.0)
    assert json.loads(out.getvalue().splitlines()[-2]) == {"event": "answered", "text": "Hello!"}
    assert daemon.asked[-1][2]["model"] == "llama3:8b"


def test_up_where_a_node_runs_already_says_so_and_is_content(cli: CliRunner, home: Path) -> None:
    text = cli.invoke(app, ["up", "--home", str(home)])
    assert text.exit_code == 0
    assert "runs already" in text.stdout
    lines = cli.invoke(app, ["up", "--log-format", "json", "--home", str(home)])
    assert json.loads(lines.stdout)["event"] == "running"


def test_up_where_a_node_is_stopping_is_not_content(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/status", {**STATUS, "node": {**STATUS["node"], "draining": True}})
    result = cli.invoke(app, ["up", "--home", str(home)])
    assert result.exit_code == 1
    assert "is stopping" in result.stderr


def test_a_busy_address_is_explained_with_its_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["meshnode"])
    monkeypatch.setattr(holder, "find", lambda port, homes: None)
    home = place.Place(tmp_path, usual=True)
    for address, flag in (("127.0.0.1:6374", "--api 127.0.0.1:0"), (":6375", "--mesh :0")):
        error = StartError("cannot listen", address=address)
        error.__cause__ = OSError(errno.EADDRINUSE, "in use")
        assert f"meshnode up {flag}" in str(up._explained(error, Config(), home))


@pytest.mark.parametrize(
    ("address", "reason"), [(None, None), ("127.0.0.1:80", OSError(errno.EACCES, "denied")), ("127.0.0.1:80", None)]
)
def test_an_error_for_another_reason_stays_as_it_is(
    tmp_path: Path, address: str | None, reason: OSError | None
) -> None:
    error = StartError("cannot start", address=address)
    error.__cause__ = reason
    assert up._explained(error, Config(), place.Place(tmp_path, usual=True)) is error
