"""`up`: starts this home's node, says where it listens, and stops it cleanly.

The first SIGINT, SIGTERM or SIGHUP drains and ends with exit code 0; a second one ends at once with exit code 1. Not
for building the node (node.py) nor for the words that are said (voice.py).
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import trio

from meshnode.cli import hello, holder, place, report, say
from meshnode.cli.report import EngineReport, Report
from meshnode.cli.voice import Lines, Text, Voice
from meshnode.config import Config, load
from meshnode.errors import MeshnodeError, StartError
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.node import Node

WATCH_S = 0.3
"""Between looks at the engines while they start: a download's bar moves smoothly enough."""
MEET_S = 1.0
"""Between looks for the first model of a mesh; people who just joined watch for it."""
ENDED_BY_FORCE = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """What the command line asked for. `flags` are settings by section and key."""

    home: Path | None
    flags: Mapping[str, Mapping[str, Any]]
    json: bool
    level: str
    hello: bool


def up(launch: Launch) -> int:
    """Run a node until a signal ends it; returns the exit code. Raises ConfigError, StartError, IdentityError."""
    home = place.place(launch.home)
    out = say.Steady(sys.stdout)
    text = Text(out, home.named)
    voice: Voice = Lines(out) if launch.json else text
    lines = out if launch.json else say.Steady(sys.stderr, before=text.clear)
    log.configure("json" if launch.json else "text", launch.level, cast(TextIO, lines))
    runs = place.running(home)
    if runs is not None:
        seen = report.read(runs.get("/mesh/status"))
        if seen.node.draining:
            raise StartError(
                f"the node in {home.path} is stopping, as soon as the answers in flight have ended: start it again then"
            )
        voice.already(seen)
        if launch.hello:
            trio.run(hello.ask, seen, voice, launch.json, home.path)
        return 0
    # Brings every room with it: nothing that a node which runs already has to wait for.
    from meshnode.node import Node

    config = load(home.path / "config.toml", os.environ, launch.flags)
    try:
        return trio.run(_serve, Node(config, home=home.path), voice, launch, config.node.grace_s)
    except StartError as error:
        raise _explained(error, config, home) from error


async def _serve(node: Node, voice: Voice, launch: Launch, grace_s: float) -> int:
    """From start through the drain. Returns the exit code; raises what kept the node from starting."""
    stop = trio.Event()
    code = ENDED_BY_FORCE
    failure: MeshnodeError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_signals, stop, nursery.cancel_scope)
        try:
            async with node:
                # What start-up built stays: collecting it again and again would cost every request.
                gc.collect()
                gc.freeze()
                gc.set_threshold(10_000, 20, 50)
                await _live(node, voice, launch, stop)
                voice.stopping(grace_s)
            code = 0
        except MeshnodeError as error:
            # Kept, so that it leaves as itself and not in the nursery's group.
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code


async def _signals(
    stop: trio.Event, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """The first signal asks for a stop, the next one cancels everything."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        # Under nohup it is ignored, and stays so.
        numbers.append(hangup)
    with trio.open_signal_receiver(*numbers) as arrivals:
        task_status.started()
        async for _ in arrivals:
            if stop.is_set():
                everything.cancel()
            stop.set()


async def _live(node: Node, voice: Voice, launch: Launch, stop: trio.Event) -> None:
    voice.ready(report.read(node.status()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_first_minute, node, voice, launch)
        await stop.wait()
        nursery.cancel_scope.cancel()


async def _first_minute(node: Node, voice: Voice, launch: Launch) -> None:
    """Tell of the engines until they have settled, then let one speak."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, node, voice)
        await node.engines_settled()
        nursery.cancel_scope.cancel()
    seen = report.read(node.status())
    voice.settled(seen)
    if not seen.models:
        seen = await _first_models(node)
        voice.met(seen)
    if launch.hello:
        await hello.ask(seen, voice, launch.json, place.place(launch.home).path)


async def _first_models(node: Node) -> Report:
    """Wait until anything can be asked: a peer is met, or an engine starts after all."""
    while True:
        await trio.sleep(MEET_S)
        seen = report.read(node.status())
        if seen.models:
            return seen


async def _watch(node: Node, voice: Voice) -> None:
    told: dict[tuple[str, str], EngineReport] = {}
    while True:
        for engine in report.read(node.status()).engines:
            if told.get((engine.name, engine.url)) != engine:
                told[engine.name, engine.url] = engine
                voice.engine(engine)
        await trio.sleep(WATCH_S)


def _explained(error: StartError, config: Config, home: place.Place) -> StartError:
    """The same error, with who holds the address and how to choose another."""
    address, reason = error.address, error.__cause__
    if address is None or not isinstance(reason, OSError) or reason.errno != errno.EADDRINUSE:
        return error
    listens = {"--api": config.front.api, "--mesh": config.mesh.listen}
    return StartError(holder.advice(address, listens, [home.path, place.place(None).path], home.named))
