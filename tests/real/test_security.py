"""What strangers get, and what is left lying about: no byte from the mesh port, no prompt in logs, files or wires."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from meshnode.model.ids import NodeId
from meshnode.noise import Initiator, Preface, Secrets, StaticKey, prologue
from tests.real.kit import PATIENCE_S, Caller, EngineThread, NodeProcess, Nodes, say, see_each_other, until

pytestmark = pytest.mark.real

HELLO = [{"role": "user", "content": "hello"}]
HANDSHAKE_S = 1.0
"""So long a stranger who says nothing is let wait; members may take as long as they usually may."""
SECRET_FILES = ("node.key", "mesh.cbor", "control.secret", "invites.cbor")


class Tap:
    """A wire between nodes that keeps a copy of all that passes: accepts on a port of its own, dials `target`."""

    def __init__(self) -> None:
        self.target = ("127.0.0.1", 0)
        self.seen = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """Where to dial."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Tap:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=function, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.append(near)
                try:
                    far = socket.create_connection(self.target)
                except OSError:
                    near.close()
                    continue
                self._open.append(far)
                self._run(self._pass, near, far)
                self._run(self._pass, far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.seen += data
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@dataclass
class Mesh:
    """charlie asks, bravo relays, alpha serves; everything between them passes the tap."""

    alpha: NodeProcess
    bravo: NodeProcess
    charlie: NodeProcess
    engine: EngineThread
    tap: Tap


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Tap() as tap, EngineThread(context=1000) as engine, Nodes(tmp_path, level="debug") as nodes:
        config = f'[mesh]\nadvertise = ["{tap.address}"]\n'
        bravo = nodes.add("bravo", mesh="127.0.0.1:0", config=config)
        tap.target = ("127.0.0.1", port_of(bravo.mesh))
        alpha = nodes.add("alpha", "--engine-url", engine.url)
        charlie = nodes.add("charlie")
        see_each_other((alpha, bravo, charlie), {"fake-model"})
        yield Mesh(alpha, bravo, charlie, engine, tap)


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node that listens."""
    with Nodes(tmp_path_factory.mktemp("lone"), level="debug") as nodes:
        yield nodes.add("lone", mesh="127.0.0.1:0", config=f"[mesh]\nhandshake_timeout_s = {HANDSHAKE_S}\n")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def knock(node: NodeProcess, said: bytes) -> bytes:
    """All that the mesh port answers until it closes."""
    heard = b""
    door = ("127.0.0.1", port_of(node.mesh))
    with socket.create_connection(door, timeout=PATIENCE_S) as stranger, contextlib.suppress(ConnectionError):
        stranger.sendall(said)
        while data := stranger.recv(65_536):
            heard += data
    return heard


def first_message(mesh_id: bytes, preface: Preface) -> bytes:
    """What a well-made stranger says: everything right but the secret."""
    machine = Initiator(
        preface, Secrets.derive(secrets.token_bytes(32), b"member"), StaticKey.generate(), b"", prologue(mesh_id)
    )
    return machine.bytes_to_send()


def test_a_stranger_reads_nothing_from_the_mesh_port(lone: NodeProcess) -> None:
    mesh_id = bytes(NodeId.parse(lone.status()["mesh"]["id"]))
    strangers = {
        "says nothing": b"",
        "asks for a page": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "speaks HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        "greets with TLS": bytes.fromhex("16030100c2010000be0303") + secrets.token_bytes(190),
        "sends noise": secrets.token_bytes(4096),
        "sends zeros": bytes(4096),
        "promises much": b"\x01\xff\xff" + secrets.token_bytes(2000),
        "is a member of another mesh": first_message(mesh_id, Preface()),
        "guesses an invite": first_message(mesh_id, Preface(secrets.token_bytes(8))),
    }
    with ThreadPoolExecutor(len(strangers)) as pool:
        heard = dict(zip(strangers, pool.map(lambda said: knock(lone, said), strangers.values()), strict=True))
    assert heard == dict.fromkeys(strangers, b"")
    assert lone.status()["mesh"]["nodes"] == 1


def ask(
    node: NodeProcess, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request by hand. Underscores in header names are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port_of(node.ready["api"]), timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path, skip_host="host" in named)
        data = json.dumps(body).encode() if body is not None else b""
        for name, value in {**named, "content-length": str(len(data))}.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/mesh/invite", "/mesh/join"])
def test_control_needs_the_homes_secret(lone: NodeProcess, path: str) -> None:
    body = {"token": "x"} if path == "/mesh/join" else {}
    secret = (lone.home / "control.secret").read_bytes().strip().decode()
    for wrong in ("", "Bearer", "Bearer ", "Bearer x", f"Basic {secret}", f"Bearer {secret[:-1]}", f"Bearer {secret}x"):
        status, _, answer = ask(lone, "POST", path, body, authorization=wrong)
        assert status == 401, wrong
        assert b"token" not in answer.replace(b"bearer token", b"")
    assert ask(lone, "POST", path, body)[0] == 401
    assert ask(lone, "POST", path, body, authorization=f"Bearer {secret}", origin="http://evil.example")[0] == 403
    assert ask(lone, "POST", path, body, authorization=f"Bearer {secret}", host="evil.example")[0] == 403
    assert ask(lone, "GET", path)[0] == 405
    right, _, answer = ask(lone, "POST", path, body, authorization=f"Bearer {secret}")
    assert right == (200 if path == "/mesh/invite" else 400), answer


@pytest.mark.parametrize("path", ["/", "/v1/models", "/mesh/status", "/metrics", "/healthz", "/v1/chat/completions"])
def test_another_host_or_origin_is_refused(lone: NodeProcess, path: str) -> None:
    method, body = ("POST", {"model": "x", "messages": HELLO}) if "chat" in path else ("GET", None)
    port = port_of(lone.ready["api"])
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "192.168.0.1", ""):
        assert ask(lone, method, path, body, host=host)[0] == 403, host
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        status, headers, _ = ask(lone, method, path, body, origin=origin)
        assert status == 403, origin
        assert "access-control-allow-origin" not in headers
    assert ask(lone, method, path, body, host=f"localhost:{port}")[0] in (200, 404)


def test_a_page_cannot_post_without_asking_first(lone: NodeProcess) -> None:
    """What a form can send without a preflight is not JSON."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        status, _, _ = ask(lone, "POST", "/v1/chat/completions", {"model": "x", "messages": HELLO}, content_type=kind)
        assert status == 400


def test_no_prompt_and_no_secret_is_left_anywhere(mesh: Mesh) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    key = f"key{secrets.token_hex(12)}"
    last_word = "t1999 "
    say_it_everywhere(mesh, canary, key)
    received = b"".join(record.body for record in mesh.engine.fake.records)
    assert received.count(canary.encode()) >= 6
    headers = str([record.headers for record in mesh.engine.fake.records])
    assert key not in headers
    nodes = (mesh.alpha, mesh.bravo, mesh.charlie)
    shown = b"".join(ask(node, "GET", path)[2] for node in nodes for path in ("/metrics", "/mesh/status"))
    control = [(node.home / "control.secret").read_bytes().strip() for node in nodes]
    for node in nodes:
        until(lambda node=node: not node.status()["requests"]["running"], "all is over")
        node.terminate()
        assert node.ended() == 0
    said = b"".join(bytes(node.output) for node in nodes)
    files = b"".join(path.read_bytes() for node in nodes for path in node.home.rglob("*") if path.is_file())
    assert b'"level": "debug"' in said
    assert len(mesh.tap.seen) > 10_000
    for place, content in {"log": said, "files": files, "pages": shown, "wire": bytes(mesh.tap.seen)}.items():
        assert canary.encode() not in content, place
        assert key.encode() not in content, place
        assert last_word.encode() not in content, place
    for secret in control:
        assert secret not in said + shown + bytes(mesh.tap.seen)
    for node in nodes:
        for name in SECRET_FILES:
            path = node.home / name
            assert not path.exists() or stat.S_IMODE(path.stat().st_mode) == 0o600, path
    say(f"{len(said)} bytes of debug log, {len(files)} in files, {len(mesh.tap.seen)} on the wire: none of them told")


def say_it_everywhere(mesh: Mesh, canary: str, key: str) -> None:
    """Ask with the canary in every place a prompt has, in ways that succeed and in ways that fail."""
    messages: list[Any] = [
        {"role": "system", "content": canary},
        {"role": "user", "content": [{"type": "text", "text": canary}]},
    ]
    with mesh.charlie.openai(api_key=key) as client:
        chat = client.chat.completions
        chat.create(model="fake-model", messages=messages, user=canary, metadata={"about": canary})
        list(chat.create(model="fake-model", messages=messages, stream=True, extra_body={"fake": {"tokens": 2000}}))
        client.completions.create(model="fake-model", prompt=canary)
        failing: list[dict[str, Any]] = [
            {"extra_body": {"fake": {"status": 500}}},
            {"extra_body": {"fake": {"nonsense": canary}}},
            {"extra_body": {"fake": {"hang": "prefill"}}, "extra_headers": {"x-meshnode-timeout": "0.2"}},
            {"messages": [{"role": "user", "content": f"{canary} " * 3000}]},
            {"messages": canary},
            {"model": f"no-such-model-{key}"},
        ]
        for how in failing:
            with pytest.raises(openai.APIStatusError):
                chat.create(**{"model": "fake-model", "messages": messages} | how)
        for end in ("die", "truncated", "unfinished"):
            with pytest.raises(openai.APIError):
                list(
                    chat.create(
                        model="fake-model", messages=messages, stream=True,
                        extra_body={"fake": {"end": end, "tokens": 9, "at": 3}},
                    )
                )  # fmt: skip
        with pytest.raises(openai.BadRequestError):
            client.post("/chat/completions", content=b'{"model": "fake-model", "' + canary.encode(), cast_to=object)
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="fake-model", input=canary)
    body = {"model": "fake-model", "messages": messages, "stream": True, "fake": {"tokens": 9, "hang": "stream"}}
    with Caller(mesh.charlie, "/v1/chat/completions", body) as caller:
        caller.read_until(b"t0 ")
