"""Eight nodes, an engine each, and roads between them, all of them processes or relays that can be broken and mended.

Does what a plan's faults say and tells when that really was. Not for deciding (plan.py) nor judging (judge.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio

from meshnode.keep import Home
from tests.real.faults.judge import Span
from tests.real.faults.plan import AT_ONCE, PREFILL_S, TOKEN_S, Fault, Plan
from tests.real.faults.roads import Road
from tests.real.kit import PATIENCE_S, NodeProcess, command

ROOT = Path(__file__).parents[3]
SLOTS = 8
MOST_TOKENS = 1000

LOOK_S = 0.2
"""Between two looks at whether a node is back."""

STATUS_S = 2.0
"""For a node to say how it is."""

BACK_S = 5.0
"""A node that is not back in the mesh after so long is taken to be, so that a product that does not come back shows."""

ENGINE_BACK_S = 12.0
"""The same for an engine that was restarted: a node looks at its engines each 10 s (`engine.probe_s`)."""

WELL: dict[str, Any] = {"tokens": MOST_TOKENS, "prefill_s": PREFILL_S, "token_s": TOKEN_S, "echo": True}

SPOILT: dict[str, dict[str, Any]] = {
    "refuse": {"status": 500},
    "prefill": {"hang": "prefill"},
    "stream": {"hang": "stream"},
    "truncated": {"end": "truncated"},
    "json": {"end": "json"},
    "utf8": {"end": "utf8"},
    "slow": {"prefill_s": PREFILL_S * 10, "token_s": TOKEN_S * 10},
}


class Engine:
    """A fake engine's process; its port stays."""

    def __init__(self, port: int, models: tuple[str, ...]) -> None:
        self.port = port
        self._line = [sys.executable, "-m", "tests.real.faults.engine", str(port), str(SLOTS), *models]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """And wait until it listens."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._line, stdin=pipe, stdout=pipe, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self.behave({})

    def behave(self, fault: dict[str, Any]) -> None:
        """From now on, for requests that come from now on."""
        self._say(json.dumps({**WELL, **fault}))

    def tell(self) -> dict[str, Any]:
        """How many requests are `running`, and the names of all that it was `sent` since it was started."""
        self._say("")
        assert self._process is not None and self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def kill(self) -> None:
        """As the kernel ends what takes too much memory."""
        assert self._process is not None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait(PATIENCE_S)

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def _say(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()


class Lab:
    """The whole mesh of one run. `spans` are the faults that are over; `lag_s` is how far they are behind the plan, by
    which a busy machine has requests sent later too."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        count = len(plan.models)
        ports = list(free_ports(2 * count))
        self.plan = plan
        self.engines = [Engine(port, models) for port, models in zip(ports[count:], plan.models, strict=True)]
        self.roads = {(i, j): Road(ports[j]) for i in range(count) for j in range(count) if i != j}
        self.nodes = [
            NodeProcess(folder / f"n{node}", "--engine-url", f"http://127.0.0.1:{self.engines[node].port}",
                        mesh=f"127.0.0.1:{ports[node]}", level="warning")
            for node in range(count)
        ]  # fmt: skip
        self.spans: list[Span] = []
        self._faults = trio.CapacityLimiter(AT_ONCE)
        self._ill = [trio.Lock() for _ in range(count)]
        self.secrets: list[str] = []
        self._apis: dict[int, int] = {}
        self.began = 0.0
        self.lag_s = 0.0

    async def start(self, nursery: trio.Nursery) -> None:
        """Found the mesh, and wait until everybody sees everybody and every model."""
        for road in self.roads.values():
            await nursery.start(road.run)
        await _together([engine.start for engine in self.engines])
        for number, node in enumerate(self.nodes):
            node.home.mkdir(mode=0o700)
            ways = [f"127.0.0.1:{self.roads[number, far].port}" for far in range(len(self.nodes)) if far != number]
            (node.home / "config.toml").write_text(f"[mesh]\ndial_learned = false\npeers = {json.dumps(ways)}\n")
        first, *others = self.nodes
        await trio.to_thread.run_sync(first.start)
        await _together([lambda node=node: self._join(first, node) for node in others])
        for node in self.nodes:
            assert await self._until(lambda node=node: self._sees(node, len(others), 2), PATIENCE_S), node.name
        self.secrets = [Home(node.home).control_secret() for node in self.nodes]
        self.began = trio.current_time()

    def api(self, node: int) -> int:
        """The port of its API, of the last start if it does not run now."""
        for line in self.nodes[node].lines:
            if line.get("event") == "ready":
                self._apis[node] = int(line["api"].rpartition(":")[2])
        return self._apis[node]

    def now(self) -> float:
        """Seconds since the run began."""
        return trio.current_time() - self.began

    async def befall(self, fault: Fault) -> None:
        """Do it, undo it, wait until what it befell is back."""
        # On a busy machine those before may not be over yet, and no more than planned are to be at the same time.
        async with self._ill[fault.node], self._faults:
            self.lag_s = max(self.lag_s, self.now() - fault.at_s)
            begun, mended, back = self._deeds(fault)
            began_s = self.now()
            await trio.to_thread.run_sync(begun)
            await trio.sleep(fault.for_s)
            await trio.to_thread.run_sync(mended)
            mended_s = self.now()
            await back()
            self.spans.append(Span(fault, began_s, self.now(), mended_s))

    def _deeds(self, fault: Fault) -> tuple[Callable[[], None], Callable[[], None], Callable[[], Awaitable[None]]]:
        """What begins a fault and what mends it, neither in the loop, and what waits until its victim is back."""
        node, engine = self.nodes[fault.node], self.engines[fault.node]
        match fault.kind:
            case "kill":
                return node.kill, lambda: _started(node), partial(self._back, fault.node)
            case "stop":
                stop, go_on = (partial(os.kill, node.pid, what) for what in (signal.SIGSTOP, signal.SIGCONT))
                return stop, go_on, partial(self._back, fault.node)
            case "cut":
                ways = [road for ends, road in self.roads.items() if fault.node in ends]
                return _all(ways, Road.silence), _all(ways, Road.mend), partial(self._back, fault.node)
            case "link":
                ways = [self.roads[fault.node, fault.other], self.roads[fault.other, fault.node]]
                return _all(ways, Road.close), _all(ways, Road.mend), trio.lowlevel.checkpoint
            case "oom":
                return engine.kill, engine.start, partial(self._offering, fault.node)
        spoil = partial(engine.behave, {**SPOILT[fault.kind], "at": fault.at_token})
        return spoil, partial(engine.behave, {}), partial(self._offering, fault.node)

    # What is seen of it from outside.

    async def settled(self, patience_s: float) -> tuple[float, str]:
        """Wait until nothing is held, queued or running anywhere; after how long, and what still was."""
        began, held = trio.current_time(), "unknown"
        with trio.move_on_after(patience_s):
            while held := await trio.to_thread.run_sync(self._held):  # noqa: ASYNC110 - other processes
                await trio.sleep(LOOK_S)
        return trio.current_time() - began, held

    def weigh(self) -> list[tuple[int, float]]:
        """Open files and megabytes of each node."""
        processes = [psutil.Process(node.pid) for node in self.nodes]
        return [(process.num_fds(), process.memory_info().rss / 1e6) for process in processes]

    def executions(self) -> Counter[str]:
        """How often each request was begun, by its name; of engines that were killed, only since."""
        return Counter(name for engine in self.engines for name in engine.tell()["sent"])

    def warnings(self) -> Counter[str]:
        """What the nodes warned of."""
        lines = [line for node in self.nodes for line in node.output.splitlines()]
        found = [json.loads(line) for line in lines if line.startswith(b"{")]
        return Counter(line["event"] for line in found if line.get("level") in ("warning", "error"))

    async def stop(self) -> str:
        """End everything in order; what did not end as it should."""
        pids = [node.pid for node in self.nodes]
        children = [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]
        for node in self.nodes:
            node.terminate()
        codes = await _together([lambda node=node: node.ended() for node in self.nodes])
        for engine in self.engines:
            engine.kill()
        left = [child.pid for child in children if child.is_running()]
        faults = [f"n{node} ended with {code}" for node, code in enumerate(codes) if code]
        return ", ".join(faults + [f"process {pid} is left" for pid in left])

    def kill(self) -> None:
        """End everything now, whatever state it is in."""
        for node in self.nodes:
            if node.runs:
                node.kill()
        for engine in self.engines:
            with suppress(AssertionError):
                engine.kill()

    def _join(self, inviter: NodeProcess, node: NodeProcess) -> None:
        command("join", self._invite(inviter), "--home", str(node.home))
        # The way by which it joined is no road of ours.
        (node.home / "addresses.cbor").unlink(missing_ok=True)
        node.start()

    def _invite(self, inviter: NodeProcess) -> str:
        """A token, asked for as `meshnode invite` does; the command itself takes as long as a node to start."""
        secret = {"authorization": f"Bearer {Home(inviter.home).control_secret()}", "content-type": "application/json"}
        asked = urllib.request.Request(inviter.ready["api"] + "/mesh/invite", b"{}", secret, method="POST")
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return str(json.load(answer)["token"])

    async def _offering(self, node: int) -> None:
        await self._until(lambda: self._offers(node), ENGINE_BACK_S)

    async def _back(self, node: int) -> None:
        await self._until(lambda: self._sees(self.nodes[node], 1, 2), BACK_S)

    def _sees(self, node: NodeProcess, peers: int, models: int) -> bool:
        status = _status(node)
        reached = sum(peer["state"] != "gone" for peer in status["peers"])
        return reached >= peers and len(status["models"]) >= models

    def _offers(self, node: int) -> bool:
        """Whether the node would use its engine."""
        name = self.nodes[node].name
        models = _status(self.nodes[node])["models"]
        return any(place["name"] == name for model in models for place in model["nodes"])

    async def _until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        with trio.move_on_after(patience_s):
            while True:
                # A node in the middle of its start or its end answers nothing, or half.
                with suppress(OSError, ValueError, AssertionError):
                    if await trio.to_thread.run_sync(condition, abandon_on_cancel=True):
                        return True
                await trio.sleep(LOOK_S)
        return False

    def _held(self) -> str:
        found = []
        for node, engine in zip(self.nodes, self.engines, strict=True):
            status = _status(node, PATIENCE_S)
            requests, busy = status["requests"], sum(line["busy"] + line["queued"] for line in status["engines"])
            held = [requests["running"], requests["for_peers"], requests["queued"], busy, engine.tell()["running"]]
            if any(held):
                found.append(f"{node.name} {held}")
        return ", ".join(found)


@contextmanager
def laboratory(folder: Path, plan: Plan) -> Iterator[Lab]:
    """A lab that leaves nothing behind."""
    lab = Lab(folder, plan)
    try:
        yield lab
    finally:
        lab.kill()


def _status(node: NodeProcess, patience_s: float = STATUS_S) -> dict[str, Any]:
    """Its `/mesh/status`, if it says so in time: it may be standing still."""
    api = next((line["api"] for line in node.lines if line.get("event") == "ready"), None)
    if api is None:
        raise OSError(f"{node.name} is not up")
    with urllib.request.urlopen(api + "/mesh/status", timeout=patience_s) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


def _all(roads: list[Road], deed: Callable[[Road], None]) -> Callable[[], None]:
    """Do it to each, in the loop."""
    return lambda: trio.from_thread.run_sync(lambda: [deed(road) for road in roads] and None)


def _started(node: NodeProcess) -> None:
    node.start()


async def _together(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each returns, called at the same time in threads."""
    found: dict[int, Any] = {}

    async def one(place: int, call: Callable[[], Any]) -> None:
        found[place] = await trio.to_thread.run_sync(call)

    async with trio.open_nursery() as nursery:
        for place, call in enumerate(calls):
            nursery.start_soon(one, place, call)
    return [found[place] for place in range(len(calls))]


def free_ports(count: int) -> Iterator[int]:
    """Ports that nobody listens at, below those the kernel gives to connections: one stays free while its process is
    being restarted."""
    port = 15_000 + os.getpid() * 37 % 10_000
    while count:
        port += 1
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            count -= 1
            yield port
