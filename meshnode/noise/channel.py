"""Records of a link whose keys are made anew while it runs: no stream pauses, nothing is lost or reordered.

The first byte of a record says what it is. 0 and 1 are the mux's and pass untouched. 2 carries one message of a new
handshake, bound to the old one; 3 says that what follows in this direction is under the new keys; 4 refuses in words.
Not for when bytes move (net), nor for who is believed (`check`). Counterpart: the Channel at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meshnode.config.mesh import MeshSection
from meshnode.errors import HandshakeFailed, IdentityError, ProtocolViolation
from meshnode.model.ids import NodeId
from meshnode.noise.handshake import Established, Initiator, Preface, Responder
from meshnode.noise.transport import Transport

HANDSHAKE, NEW_KEYS, REFUSAL = 2, 3, 4

MAX_REASON_BYTES = 300
"""Of a refusal's text: a sentence or two."""

MIN_INTERVAL_S = 60.0
"""Between two handshakes on one link: they cost half a millisecond of each side, which nobody shall ask for at will."""

BURST = 2
"""Handshakes that may begin at once: the first is not counted (the link may be as old as it likes)."""

SLACK = 0.25
"""A dialler keeps this part of the interval more than it must: its messages may be delayed by less and less."""

JITTER = 0.1
"""A dialler begins up to this part earlier, so that links that came up together do not shake hands together."""

PATIENCE = 6
"""An unfinished handshake is given up after so many times `mesh.handshake_timeout_s`: it waits behind bulk data."""


@dataclass(frozen=True, slots=True)
class Rekeying:
    """What a link needs to shake hands anew, as a member.

    Each maker takes the old session's handshake hash, to be appended to the prologue. `check` judges (payload, remote
    static key): the node's id and what makes it a member, or IdentityError.
    """

    initiator: Callable[[bytes], Initiator]
    responder: Callable[[bytes], Responder]
    check: Callable[[bytes, bytes], tuple[NodeId, Any]]


class Channel:
    """Seals and opens a link's records; `open` also takes part in handshakes, `tick` begins them.

    `rekeyed` counts finished ones, `made_at` is when the present keys came into use, `membership` is what `check` made
    of the peer at the last one (None before). Any error of `open` is the end of it.
    """

    def __init__(
        self,
        transport: Transport,
        peer: NodeId,
        section: MeshSection,
        rekeying: Rekeying | None,
        now: float,
        *,
        initiator: bool,
    ) -> None:
        """`initiator`: this end dialled, so it begins. Without `rekeying` the keys stay and handshakes are refused."""
        self._sending = self._receiving = transport
        self._peer = peer
        self._rekeying = rekeying
        self._initiator = initiator
        self._rekey_s = section.rekey_s
        self._patience_s = PATIENCE * section.handshake_timeout_s
        self._out = bytearray()
        self._machine: Initiator | Responder | None = None
        # Keys of a handshake that has succeeded, while the peer still sends under the old ones.
        self._next: Transport | None = None
        self._accepted: Any = None
        self._began_at: float | None = None
        self._starts, self._starts_at = float(BURST), now
        self._failed = False
        self.made_at = now
        self.rekeyed = 0
        self.membership: Any = None

    # Records.

    def seal(self, records: Sequence[bytes]) -> bytes:
        """Bytes for the wire: what this machine has to say, then `records`, each of 1..65,519 bytes."""
        seal = self._sending.seal
        data = b"".join([seal(record) for record in records])
        if self._out:
            # Sealed before these, so under older keys or with smaller nonces.
            data = bytes(self._out) + data
            self._out.clear()
        return data

    @property
    def wants_to_send(self) -> bool:
        """Whether `seal` has something without records."""
        return bool(self._out)

    def open(self, data: bytes, now: float) -> list[bytes]:
        """The mux's records that `data` completes.

        Raises ProtocolViolation, and HandshakeFailed when either side refuses the other in a new handshake; then send
        what `seal` still has, which tells the peer why.
        """
        if self._failed:
            raise ProtocolViolation("this link has failed before")
        self._failed = True
        records = self._receiving.open(data, HANDSHAKE)
        while records and records[-1][0] >= HANDSHAKE:
            rest = self._control(records.pop(), now)
            records += self._receiving.open(rest, HANDSHAKE)
        self._failed = False
        return records

    # Time.

    def tick(self, now: float) -> None:
        """Time has passed: begins a handshake that is due; then `seal` has something. Raises HandshakeFailed when one
        took too long, or the peer lets the keys grow old."""
        if self._rekeying is None:
            return
        if self._began_at is not None:
            if now - self._began_at > self._patience_s:
                raise HandshakeFailed(f"no new keys for this link within {self._patience_s:g} s")
        elif self._initiator:
            if self._is_due(now):
                self._begin(self._rekeying, now)
        elif now - self.made_at > 2 * max(self._rekey_s, MIN_INTERVAL_S) + self._patience_s:
            raise HandshakeFailed("the peer lets this link's keys grow old")

    def _is_due(self, now: float) -> bool:
        # Random enough for jitter, and the same at every call.
        jitter = JITTER * int.from_bytes(self._sending.binding[:2], "big") / 65_536
        old = now - self.made_at >= self._rekey_s * (1 - jitter)
        worn = self._sending.worn or self._receiving.worn
        return (old or worn) and self._starts_left(now) >= 1 + SLACK

    def _starts_left(self, now: float) -> float:
        return min(float(BURST), self._starts + (now - self._starts_at) / MIN_INTERVAL_S)

    def _started(self, now: float) -> None:
        self._starts, self._starts_at = self._starts_left(now) - 1, now
        self._began_at = now

    # The handshake. On both sides: machine, then next, then neither.

    def _begin(self, rekeying: Rekeying, now: float) -> None:
        self._started(now)
        with _own_credential():
            self._machine = rekeying.initiator(self._sending.binding)
        self._say(HANDSHAKE, self._machine.bytes_to_send())

    def _control(self, record: bytes, now: float) -> bytes:
        """Take a record that is not the mux's; the bytes to open next."""
        kind = record[0]
        if kind == HANDSHAKE:
            self._advance(record[1:], now)
            return b""
        if kind == NEW_KEYS:
            return self._switch_receiving(record, now)
        if kind == REFUSAL and self._initiator and self._next is not None:
            raise HandshakeFailed(f"the peer refused this node: {read_refusal(record)}")
        raise ProtocolViolation(f"a record of kind {kind} out of place")

    def _advance(self, message: bytes, now: float) -> None:
        if self._rekeying is None or self._next is not None:
            raise ProtocolViolation("a handshake out of place")
        machine = self._machine or self._answer(self._rekeying, message, now)
        try:
            with _own_credential():
                established = machine.receive(message)
        except HandshakeFailed as error:
            raise HandshakeFailed(f"a new handshake on the link failed: {error}") from error
        answer = machine.bytes_to_send()
        if established is None:
            if not answer:
                raise ProtocolViolation("a handshake message in pieces")
            self._say(HANDSHAKE, answer)
            return
        if established.surplus:
            raise ProtocolViolation("bytes behind a handshake message")
        self._accepted = self._judge(self._rekeying, established)
        if answer:
            self._say(HANDSHAKE, answer)
        self._switch_sending(established.transport)

    def _answer(self, rekeying: Rekeying, message: bytes, now: float) -> Responder:
        if self._initiator:
            raise ProtocolViolation("the side that was dialled begins a handshake")
        if message[:1] != Preface().encode():
            raise ProtocolViolation("a handshake on a link that is not a member's")
        if self._starts_left(now) < 1:
            raise ProtocolViolation("too many handshakes on one link")
        self._started(now)
        with _own_credential():
            machine = rekeying.responder(self._sending.binding)
        self._machine = machine
        return machine

    def _judge(self, rekeying: Rekeying, established: Established) -> Any:
        try:
            peer, membership = rekeying.check(established.remote_payload, established.remote_static)
            if peer != self._peer:
                raise IdentityError(f"{peer.short} on a link of {self._peer.short}")
        except IdentityError as error:
            if not self._initiator:
                self._out += self._sending.seal(refusal(str(error)))
            raise HandshakeFailed(f"the peer's new credential is refused: {error}") from error
        return membership

    def _switch_sending(self, transport: Transport) -> None:
        self._say(NEW_KEYS)
        self._machine = None
        self._sending = self._next = transport

    def _switch_receiving(self, record: bytes, now: float) -> bytes:
        if self._next is None or len(record) != 1:
            raise ProtocolViolation("new keys out of place")
        rest = self._receiving.take_rest()
        self._receiving, self._next = self._next, None
        self._began_at = None
        self.membership, self._accepted = self._accepted, None
        self.made_at = now
        self.rekeyed += 1
        return rest

    def _say(self, kind: int, payload: bytes = b"") -> None:
        self._out += self._sending.seal(bytes([kind]) + payload)


@contextmanager
def _own_credential() -> Iterator[None]:
    """This node's own certificates may have ended meanwhile: then there is no new handshake."""
    try:
        yield
    except IdentityError as error:
        raise HandshakeFailed(f"this node cannot shake hands anew: {error}") from error


def refusal(reason: str) -> bytes:
    """The record that refuses the other end, cut to its largest size."""
    return bytes([REFUSAL]) + reason.encode()[:MAX_REASON_BYTES]


def read_refusal(record: bytes) -> str:
    """What a refusal says, as one printable line."""
    text = record[1 : 1 + MAX_REASON_BYTES].decode(errors="replace")
    return "".join(c for c in text if c.isprintable()) or "without a word"
