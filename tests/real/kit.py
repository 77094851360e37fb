"""What the acceptance tests are made of: nodes as processes, fake engines on threads, and waiting that has an end.

Synchronous, because the OpenAI client is: a fixture of a whole module can own a mesh. Not for tests inside one process
(tests/mesh, tests/dispatch). Counterpart: test_*.py beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import openai
import trio

from meshnode.testing import Behaviour, FakeEngine, Record
from tests.kit.waiting import PATIENCE_S, until

T = TypeVar("T")

MESHNODE = [sys.executable, "-m", "meshnode"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MESHNODE_")}


def command(*arguments: str, given: str = "") -> str:
    """What a command of meshnode's printed, with `given` on its standard input; it must have succeeded."""
    ran = subprocess.run(
        [*MESHNODE, *arguments], input=given.encode(), capture_output=True, timeout=PATIENCE_S, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


class NodeProcess:
    """`meshnode up` in a home of its own: started, asked, ended and started again.

    `lines` are the JSON objects it has printed since the last start, `output` all its bytes on both streams since the
    first. Leaving the block kills it if it still runs. `started` are those whose block has not been left.
    """

    started: ClassVar[list[NodeProcess]] = []

    quiet: tuple[str, ...] = ("--no-mdns",)
    """No test speaks on the network of the machine that runs it."""

    def __init__(
        self, home: Path, *arguments: str, mesh: str = "none", level: str = "info", program: Sequence[str] = MESHNODE
    ) -> None:
        self.home = home
        self._program = program
        self.mesh = mesh
        self.lines: list[dict[str, Any]] = []
        self.output = bytearray()
        self._arguments = ["--name", home.name, "--log-level", level, *arguments]
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []

    @property
    def name(self) -> str:
        """As other nodes call it."""
        return self.home.name

    @property
    def pid(self) -> int:
        """Of the process started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def ready(self) -> dict[str, Any]:
        """The line that says where it listens."""
        return self.event("ready")

    def start(self) -> Self:
        """Start it and wait until it says that it is ready. A mesh port found free at the first start is kept."""
        assert not self.runs
        if self not in self.started:
            self.started.append(self)
        line = [
            *self._program,
            "up",
            "--home",
            str(self.home),
            "--api",
            "127.0.0.1:0",
            "--mesh",
            self.mesh,
            *self.quiet,
        ]
        self.lines = []
        process = self._process = subprocess.Popen(
            [*line, "--log-format", "json", *self._arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(process.stderr, None)),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.mesh = self.ready["mesh"] or self.mesh
        except AssertionError:
            self.kill()
            raise
        return self

    def event(self, name: str) -> dict[str, Any]:
        """The first line of this event since the start, waiting for it."""
        end = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                for line in self.lines:
                    if line.get("event") == name:
                        return line
                assert any(reader.is_alive() for reader in self._readers), f"{self.name} ended without {name}: {self}"
                assert self._news.wait(end - time.monotonic()), f"{self.name} did not say {name}: {self}"

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        assert self._process is not None
        self._process.kill()
        self.ended()

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._process is not None
        code = self._process.wait(patience_s)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def get(self, path: str) -> Any:
        """The JSON behind a path of its API."""
        with urllib.request.urlopen(self.ready["api"] + path, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def status(self) -> dict[str, Any]:
        """Its `/mesh/status`."""
        document: dict[str, Any] = self.get("/mesh/status")
        return document

    def peers(self) -> dict[str, str]:
        """State by name, of each other node it knows."""
        return {peer["name"]: peer["state"] for peer in self.status()["peers"]}

    def models(self) -> set[str]:
        """What it lists to OpenAI's clients."""
        return {model["id"] for model in self.get("/v1/models")["data"]}

    def openai(self, **settings: Any) -> openai.OpenAI:
        """A client of this node that never tries again by itself; close it."""
        usual: dict[str, Any] = {
            "base_url": f"{self.ready['api']}/v1",
            "api_key": "none",
            "max_retries": 0,
            "timeout": PATIENCE_S,
        }
        return openai.OpenAI(**(usual | settings))

    def __enter__(self) -> Self:
        return self if self.runs else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.runs:
            self.kill()
        if self in self.started:
            self.started.remove(self)

    def __str__(self) -> str:
        return bytes(self.output[-2000:]).decode("utf-8", "replace")

    def _read(self, pipe: Any, lines: list[dict[str, Any]] | None) -> None:
        with pipe:
            for line in pipe:
                with self._news:
                    self.output += line
                    if lines is not None:
                        lines.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()


class Nodes:
    """Nodes of one mesh below one folder; the first that listens gives the invites. Leaving ends them all."""

    def __init__(self, folder: Path, level: str = "info") -> None:
        self.folder = folder
        self._level = level
        self._inviter: NodeProcess | None = None
        self._stack = contextlib.ExitStack()

    def add(
        self,
        name: str,
        *arguments: str,
        mesh: str = "none",
        config: str = "",
        before: Callable[[Path], None] | None = None,
        owner: str = "",
        program: Sequence[str] = MESHNODE,
    ) -> NodeProcess:
        """Start a node that has joined. `config` is its config.toml; `before` may put more in its home; `owner` is
        whose machine it is; `program` what runs in place of meshnode."""
        home = self.folder / name
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text(config)
        if before is not None:
            before(home)
        if self._inviter is not None:
            command("join", self.invite(owner), "--home", str(home))
        engines = arguments or ("--engines", "none")
        node = NodeProcess(home, *engines, mesh=mesh, level=self._level, program=program)
        self._stack.enter_context(node)
        if self._inviter is None and mesh != "none":
            self._inviter = node
        return node

    def invite(self, owner: str = "") -> str:
        """A fresh token."""
        assert self._inviter is not None
        return command("invite", "--owner", owner, "--home", str(self._inviter.home)).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def see_each_other(nodes: Sequence[NodeProcess], models: set[str]) -> None:
    """Wait until each of `nodes` reaches all the others and lists `models`."""
    for node in nodes:
        others = {other.name for other in nodes if other is not node}
        until(lambda node=node, others=others: reached(node) >= others, f"{node.name} reaches {others}")
        until(lambda node=node: node.models() == models, f"{node.name} lists {models}")


def reached(node: NodeProcess) -> set[str]:
    """Names of the nodes that `node` can reach now."""
    return {name for name, state in node.peers().items() if state != "gone"}


class Pace(Behaviour, frozen=False):  # type: ignore[misc] # the one field that changes is read at each token
    """Slow streams, until `hurry`: what a test does meanwhile is done while they run, however long it takes."""

    token_s: float = 0.25

    def hurry(self, token_s: float = 0.0) -> None:
        """So long between tokens from now on."""
        self.token_s = token_s


class EngineThread:
    """A fake engine that lives on a thread of its own, so that tests which block can use it. Leaving ends it."""

    def __init__(self, **settings: Any) -> None:
        self.fake = FakeEngine(**settings)
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.fake.url

    def started(self, count: int) -> list[Record]:
        """Wait until so many requests in all have come to it; those after the first `count - 1`."""
        return self._wait(lambda: self.fake.started(count), f"{count} requests came")

    def cut(self, count: int) -> list[Record]:
        """Wait until so many requests in all were left by their client."""
        return self._wait(lambda: self.fake.cut(count), f"{count} requests were cut")

    def cuts(self) -> int:
        """How many were, so far."""
        return sum(record.cut for record in self.fake.records)

    def die(self) -> None:
        """As kill -9 would end it, seen from outside."""
        self._call(self.fake.die)

    def revive(self) -> None:
        """The same port again."""
        self._call(self.fake.revive)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE_S)

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.fake.run)
                self._token = trio.lowlevel.current_trio_token()
                self._up.set()
                await trio.sleep_forever()

    def _call(self, function: Callable[[], None]) -> None:
        trio.from_thread.run_sync(function, trio_token=self._token)

    def _wait(self, waiting: Callable[[], Awaitable[T]], what: str) -> T:
        async def bounded() -> T:
            with trio.move_on_after(PATIENCE_S):
                return await waiting()
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")

        return trio.from_thread.run(bounded, trio_token=self._token)


class Caller:
    """A client by hand, which can leave whenever it likes: one request on one socket."""

    def __init__(self, node: NodeProcess, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None):
        host, port = node.ready["api"].removeprefix("http://").split(":")
        data = json.dumps(body).encode()
        head = {"host": f"{host}:{port}", "content-type": "application/json", "content-length": str(len(data))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in (head | dict(headers or {})).items())
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self.socket.sendall(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)

    def read_until(self, mark: bytes) -> bytes:
        """Read on until `mark` has come."""
        data = b""
        while mark not in data:
            more = self.socket.recv(65_536)
            assert more, f"the answer ended without {mark!r}: {data[-500:]!r}"
            data += more
        return data

    def leave(self) -> None:
        """Close the socket, whatever is still to come."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def exists(pid: int) -> bool:
    """Whether a process of this id runs; one that only waits to be reaped does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def say(*facts: object) -> None:
    """Tell a measurement: shown with `pytest -s`."""
    print("\n  measured:", *facts)
