"""Handshakes: strangers get no byte, changed messages no link, and an untouched exchange the same keys on both ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshnode.errors import HandshakeFailed
from meshnode.noise import Established, Initiator, Preface, Responder, Secrets, StaticKey, prologue
from tests.fuzz.kit import Draw, cut, mutate, refused

MEMBER = Secrets.derive(b"m" * 32, b"member")
JOINER = Secrets.derive(b"j" * 32, b"join")
HINT = b"hint-of-8"[:8]
PROLOGUE = prologue(b"i" * 32)
STATICS = [StaticKey(X25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2)]
PAYLOADS = (b"the dialler's payload", b"the listener's payload")
MAX_ANSWER = 2 + 2048
MAX_KEPT = 2 + 2048
"""A message and its length: nothing longer is waited for."""


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(3):
        case 0:
            _garbage(_responder(), draw.take(3), draw.rest(), secret=False)
        case 1:
            _garbage(_initiator(None), draw.take(3), draw.rest(), secret=True)
        case _:
            _between_them(draw)


def _initiator(hint: bytes | None) -> Initiator:
    secrets = MEMBER if hint is None else JOINER
    return Initiator(Preface(hint), secrets, STATICS[0], PAYLOADS[0], PROLOGUE)


def _responder() -> Responder:
    def select(preface: Preface) -> Secrets | list[Secrets] | None:
        if preface.hint is None:
            return [Secrets.derive(b"newer" * 8, b"member"), MEMBER]
        return JOINER if preface.hint == HINT else None

    return Responder(select, STATICS[1], lambda _: PAYLOADS[1], lambda _: PROLOGUE)


def _garbage(machine: Initiator | Responder, pattern: bytes, wire: bytes, *, secret: bool) -> None:
    """Who has no secret gets no link, and of a responder no byte."""
    if secret:
        machine.bytes_to_send()
    for piece in cut(wire, pattern):
        if refused(lambda piece=piece: machine.receive(piece), HandshakeFailed):  # type: ignore[misc]
            assert refused(machine.bytes_to_send, HandshakeFailed), "it speaks after a failure"
            assert refused(lambda: machine.receive(b""), HandshakeFailed), "it listens after a failure"
            return
        assert machine.bytes_to_send() == b"", "a byte for a stranger"


@dataclass
class _Side:
    """One machine and what came of it."""

    machine: Initiator | Responder
    established: Established | None = None
    failed: bool = False
    said: int = field(default=0)

    def hears(self, wire: bytes, pattern: bytes) -> None:
        for piece in cut(wire, pattern):
            if self.failed or self.established is not None:
                return
            try:
                self.established = self.machine.receive(piece)
            except HandshakeFailed:
                self.failed = True

    def says(self) -> bytes:
        if self.failed:
            assert refused(self.machine.bytes_to_send, HandshakeFailed)
            return b""
        out = self.machine.bytes_to_send()
        assert len(out) <= MAX_ANSWER + 9
        return out


def _between_them(draw: Draw) -> None:
    """Somebody on the wire changes one of the three messages, or none."""
    hint = (None, HINT, b"another!")[draw.number(3)]
    pattern, changed = draw.take(2), draw.number(4)
    dialler, listener = _Side(_initiator(hint)), _Side(_responder())
    touched = hint == b"another!"
    change: Callable[[bytes], bytes] = lambda message: mutate(message, draw)  # noqa: E731
    for number, (frm, to) in enumerate([(dialler, listener), (listener, dialler), (dialler, listener)]):
        message = frm.says()
        arrived = change(message) if number == changed else message
        # More after the last message that a side hears is the first record's, and comes out as surplus.
        grown = number > 0 and arrived.startswith(message)
        touched |= arrived != message and not grown
        to.hears(arrived, pattern)
    if touched:
        assert listener.established is None, "a link over changed bytes"
        return
    _agree(dialler, listener)


def _agree(dialler: _Side, listener: _Side) -> None:
    ends = dialler.established, listener.established
    assert ends[0] is not None and ends[1] is not None, "an untouched handshake failed"
    assert (ends[0].remote_payload, ends[1].remote_payload) == (PAYLOADS[1], PAYLOADS[0])
    assert (ends[0].remote_static, ends[1].remote_static) == (STATICS[1].public, STATICS[0].public)
    for here, there in (ends, ends[::-1]):
        assert there.transport.open(here.transport.seal(b"hello")) == [b"hello"]


def seeds() -> dict[str, bytes]:
    """Whole exchanges of members and joiners, changed ones, and what scanners say."""
    return {
        "member": b"\x02\x00\xff\x04\x03",
        "joiner": b"\x02\x01\x03\x20\x03",
        "stranger-hint": b"\x02\x02\xff\xff\x03",
        "first-changed": b"\x02\x00\xff\xff\x00" + b"\x00\x10\x03",
        "second-changed": b"\x02\x00\x08\xff\x01" + b"\x00\x00\x50\x03",
        "third-longer": b"\x02\x00\xff\xff\x02" + b"\x02\x00\xbb\x10" + bytes(16),
        "scanner": b"\x00\xff\xff\xff" + b"GET / HTTP/1.1\r\n\r\n",
        "promises": b"\x00\x01\x01\x01" + b"\x01\x00\x30" + bytes(48),
    }
