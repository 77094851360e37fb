"""A member that means no good: joined by an invite like any other, then speaking on its link whatever bytes it likes.

Built on the project's own keys, certificates, handshake and records, with HTTP/2 by hand (tests.kit.frames). Not for
strangers, who have no secret (strangers.py). Counterpart: test_hostile.py.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import trio

from meshnode.config import Config, load
from meshnode.errors import InviteRefused
from meshnode.identity import NodeKey, certify_link, pack_payload
from meshnode.keep.home import Home, Membership
from meshnode.mesh.join import join_mesh
from meshnode.model.ids import NodeId
from meshnode.noise import Established, Initiator, Preface, StaticKey, prologue
from tests.kit import frames as h2
from tests.kit.frames import frame, settings
from tests.real.kit import PATIENCE_S, NodeProcess, until

RECORD_BYTES = 60_000
MUX = (0, 1)
"""First bytes of the records of a link that was granted; another one refuses it."""

ROLES = b'{"roles": ["client", "relay", "serve"]}'

Piece = tuple[int, bytes]
"""Frames for one of a link's two HTTP/2 connections: 0 carries the dialler's requests, 1 the listener's."""


class Closed(Exception):
    """The victim has closed the link."""


@dataclass(frozen=True)
class Papers:
    """One membership: enough to knock as often as one likes."""

    key: NodeKey
    membership: Membership

    @property
    def id(self) -> NodeId:
        """Whose it is."""
        return self.key.id

    @classmethod
    def joined(cls, victim: NodeProcess, folder: Path) -> Papers:
        """A new node's, by an invite of the victim's."""
        folder.mkdir(mode=0o700)
        home = Home(folder)
        config = load(flags={"node": {"name": folder.name}})
        token = _invite(victim)
        until(lambda: _is_in(home, token, config), "joined")
        key = home.node_key()
        membership = home.membership(key)
        assert membership is not None
        return cls(key, membership)

    def initiator(self, binding: bytes = b"") -> Initiator:
        """A fresh handshake, all of it as it should be. `binding`: of the link that it happens in."""
        mesh, static, now = self.membership.mesh, StaticKey.generate(), int(time.time())
        link = certify_link(self.key, static.public, mesh.id, now)
        payload = pack_payload(link, self.membership.chain, "mallory")
        return Initiator(Preface(), mesh.secrets(now)[0], static, payload, prologue(mesh.id) + binding)


def _is_in(home: Home, token: str, config: Config) -> bool:
    """Whether joining went well; not when the turnstile let nobody in just now, as many come from this address."""
    with contextlib.suppress(InviteRefused):
        trio.run(join_mesh, home, token, config)
        return True
    return False


def _invite(victim: NodeProcess) -> str:
    """For somebody who may do all but invite, revoke and rotate."""
    secret = (victim.home / "control.secret").read_text().strip()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asking = urllib.request.Request(victim.ready["api"] + "/mesh/invite", ROLES, headers)
    with urllib.request.urlopen(asking, timeout=PATIENCE_S) as answer:
        return str(json.load(answer)["token"])


class Attacker:
    """One link to the victim. What the victim says is read by a thread for its credit alone, unless `deaf`.

    `granted`: the link came about. `closed`: the victim has ended it. Leaving the block closes it here.
    """

    def __init__(self, papers: Papers, victim: NodeProcess, *, deaf: bool = False) -> None:
        self._news = threading.Condition()
        self._heard = _Heard()
        self._fence = 0
        self._leaving = False
        self.closed = threading.Event()
        host, _, port = victim.mesh.rpartition(":")
        established = until(lambda: self._shake_hands(papers, host, int(port)), "a handshake came about")
        self._transport = established.transport
        first = self._first_record(established.surplus)
        self.granted = bool(first)
        self._reader = threading.Thread(target=self._read, args=(first,))
        if not self.granted:
            self.closed.set()
        elif not deaf:
            self._reader.start()

    @property
    def binding(self) -> bytes:
        """What a new handshake inside this link is bound to."""
        return self._transport.binding

    def greet(self) -> None:
        """Begin both HTTP/2 connections, as it should be."""
        self.send([(0, h2.PREFACE + settings()), (1, settings())])

    def send(self, pieces: Iterable[Piece]) -> None:
        """Say all of it. Raises Closed."""
        for half, frames in pieces:
            for at in range(0, len(frames), RECORD_BYTES):
                self.send_plaintext(bytes([half]) + frames[at : at + RECORD_BYTES])

    def stream(self, stream: int, headers: Iterable[tuple[str, str]], body: Iterable[bytes]) -> None:
        """Open a stream and say `body` on it as fast as the victim gives credit. Raises Closed."""
        self.send([(0, h2.request(stream, headers))])
        for data in body:
            for at in range(0, len(data), h2.MAX_FRAME):
                piece = data[at : at + h2.MAX_FRAME]
                self._pay(stream, len(piece))
                self.send([(0, frame(h2.DATA, 0, stream, piece))])

    def send_plaintext(self, record: bytes) -> None:
        """One record of any kind, sealed. Raises Closed."""
        with self._news:
            sealed = self._transport.seal(record)
        self.send_raw(sealed)

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are. Raises Closed."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def fence(self) -> None:
        """Wait until the victim has taken in everything said so far. Raises Closed when it ended the link over it."""
        self._fence += 1
        name = self._fence.to_bytes(8, "big")
        self.send([(0, frame(h2.PING, 0, 0, name))])
        self._wait(lambda: name in self._heard.pongs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.is_alive():
            self._reader.join(PATIENCE_S)
        self._socket.close()

    def _pay(self, stream: int, count: int) -> None:
        self._wait(lambda: min(self._heard.credit(0), self._heard.credit(stream)) >= count)
        self._heard.spent[0] += count
        self._heard.spent[stream] += count

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.closed.is_set() or condition(), PATIENCE_S), "the victim hangs"
        if self.closed.is_set():
            raise Closed

    def _shake_hands(self, papers: Papers, host: str, port: int) -> Established | None:
        """None when the turnstile let nobody in just now."""
        self._socket = socket.create_connection((host, port), timeout=PATIENCE_S)
        machine = papers.initiator()
        established = None
        while established is None:
            try:
                self._socket.sendall(machine.bytes_to_send())
                data = self._socket.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                self._socket.close()
                return None
            established = machine.receive(data)
        self._socket.sendall(machine.bytes_to_send())
        return established

    def _first_record(self, data: bytes) -> bytes:
        """What the victim says first; nothing when it is no link that it offers."""
        while (record := self._transport.peek(data)) is None:
            try:
                more = self._socket.recv(65_536)
            except OSError:
                return b""
            if not more:
                return b""
            data += more
        return data if record[0] in MUX else b""

    def _read(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            while data:
                with self._news:
                    for record in self._transport.open(data):
                        if record[0] == 0:
                            self._heard.take(record[1:])
                    self._news.notify_all()
                data = self._socket.recv(1 << 20)
        with self._news:
            if not self._leaving:
                self.closed.set()
            self._news.notify_all()


class _Heard:
    """What an attacker must know of what the victim says on the dialler's connection: credit, and answered pings."""

    def __init__(self) -> None:
        self.pongs: set[bytes] = set()
        self.spent: Counter[int] = Counter()
        self._given: Counter[int] = Counter()
        self._initial = h2.DEFAULT_WINDOW
        self._rest = b""

    def credit(self, stream: int) -> int:
        """Bytes of DATA that the victim takes now."""
        initial = self._initial if stream else h2.DEFAULT_WINDOW
        return initial + self._given[stream] - self.spent[stream]

    def take(self, data: bytes) -> None:
        """Any cut of its frames."""
        data = self._rest + data
        while len(data) >= h2.HEAD and len(data) >= h2.HEAD + (size := int.from_bytes(data[:3], "big")):
            stream = int.from_bytes(data[5:9], "big")
            self._one(data[3], data[4], stream, data[h2.HEAD : h2.HEAD + size])
            data = data[h2.HEAD + size :]
        self._rest = data

    def _one(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == h2.PING and flags & h2.ACK:
            self.pongs.add(payload)
        elif kind == h2.WINDOW_UPDATE:
            self._given[stream] += int.from_bytes(payload, "big")
        elif kind == h2.SETTINGS and not flags & h2.ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == h2.INITIAL_WINDOW_SIZE:
                    self._initial = int.from_bytes(payload[at + 2 : at + 6], "big")


class Gauge:
    """The most resident memory that a process had above where it began, sampled while the block lasts. Bytes."""

    SAMPLE_S = 0.01

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.began = self.peak = self._now()

    @property
    def growth(self) -> int:
        """Peak over beginning."""
        return self.peak - self.began

    def _now(self) -> int:
        return int(self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(self.SAMPLE_S):
            self.peak = max(self.peak, self._now())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._now())


__all__ = ["Attacker", "Closed", "Gauge", "Papers", "Piece"]
