"""A daemon of the standard library, so that the commands are tested through real sockets without a node."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from meshnode.keep.home import Home

STATUS: dict[str, Any] = {
    "node": {"id": "n" * 52, "short": "nq4f-7kta", "name": "studio", "version": "0.1.0", "uptime_s": 7300.0},
    "mesh": {
        "id": "m" * 52, "name": "home", "address": "0.0.0.0:6375", "addresses": ["192.168.1.5:6375"], "nodes": 3,
        "trust": "ca", "roles": ["client", "relay", "serve"], "owner": "bob",
        "member_until": "2099-01-01T00:00:00+00:00",
        "may_invite": True, "holds_root": True, "secret_generation": 2, "revoked": None,
    },
    "api": "http://127.0.0.1:6374",
    "hardware": {"gpus": [], "memory_bytes": 16 * 2**30, "free_bytes": 9 * 2**30},
    "engines": [
        {
            "name": "ollama", "kind": "ollama", "url": "http://127.0.0.1:11434", "state": "ready", "detail": "",
            "models": ["llama3:8b"], "slots": 4, "busy": 1, "queued": 2,
        }
    ],
    "models": [
        {
            "name": "llama3:8b", "context": 8192, "features": ["chat"],
            "nodes": [{"id": "n", "name": "studio", "loaded": True, "slots": 4}],
        }
    ],
    "peers": [
        {
            "id": "p" * 52, "short": "pppp-pppp", "name": "attic\x1b[31m", "state": "relay", "via": "cellar",
            "rtt_ms": 0.42, "models": ["qwen:7b"], "slots": 2, "queue": 1, "owner": "ann", "posture": "claimed",
            "version": "0.1.0", "addresses": ["192.168.1.6:6375"], "last_seen_s": 1.2, "address": None,
            "roles": ["client", "serve"], "pinned": True, "invited_by": None,
        }
    ],
    "waiting": [{"engine": "ollama", "owner": "ann", "tier": "low", "position": 1, "age_s": 4.2}],
    "requests": {"running": 1, "queued": 2, "queued_elsewhere": 1, "answered": 30, "failed": 4},
}  # fmt: skip
"""A node with one engine and one peer behind a relay. The peer's name tries to colour the terminal."""


def piece(**delta: str) -> bytes:
    """One event of a streamed chat answer."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@dataclass
class FakeDaemon:
    """What the daemon answers by (method, path), and what it was asked."""

    api: str = ""
    answers: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any, status: int = 200) -> None:
        self.answers[method, path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    fake = FakeDaemon()
    fake.answer("GET", "/healthz", {})
    fake.answer("GET", "/mesh/status", STATUS)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _reply(self, body: Any) -> None:
            fake.asked.append((self.command, self.path, body, self.headers["authorization"]))
            missing = (404, b'{"error":{"message":"no such page","code":"not_found"}}')
            status, answer = fake.answers.get((self.command, self.path), missing)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.api = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, daemon: FakeDaemon) -> Path:
    """A home whose node runs: this process stands in for it."""
    path = tmp_path / "home"
    Home(path).write_run({"pid": os.getpid(), "api": daemon.api, "mesh": None, "node": "n" * 52})
    return path


class Terminal(io.StringIO):
    """Standard input or output that people sit at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(sys, "argv", ["meshnode"])
    return CliRunner()
