"""The handshake as two byte machines, `Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256` and nothing else.

On the wire: one clear preface (member, or joiner with a hint), then three Noise messages, each behind a 2-byte
big-endian length. Whoever lacks the secret of psk0 gets zero bytes from a Responder. Not for what the payloads mean
(identity checks them), nor for time-outs and half-open limits (net). Counterpart: the other class of this module.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from meshnode.errors import HandshakeFailed
from meshnode.model.psk import Secrets
from meshnode.noise.session import Session, StaticKey
from meshnode.noise.transport import LENGTH_BYTES, Transport

__all__ = ["Established", "Initiator", "Preface", "Responder", "Secrets", "StaticKey", "prologue"]

PROTOCOL = b"meshnode link"
VERSIONS = (1, 1)
"""Oldest and newest version spoken. Part of the prologue: whoever speaks others, or changes these, fails."""

MAX_MESSAGE_BYTES = 2048
"""A handshake message: two certificates fit, a flood does not (protocol.md §2)."""

MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES - 96
"""The second message adds two keys and two tags, the third less."""

HINT_BYTES = 8
FIRST_MESSAGE_BYTES = 48
"""Ephemeral key and the tag of an empty payload, exactly: psk0 alone gives no forward secrecy, so nothing else goes
there, and a longer message is refused by its length."""


@dataclass(frozen=True, slots=True)
class Preface:
    """The clear bytes before the first message: which secret the initiator uses.

    `hint` is None for a member (network secret), or the 8 bytes that find an invite. The bytes are part of what both
    sides authenticate.
    """

    hint: bytes | None = None

    def __post_init__(self) -> None:
        if self.hint is not None and len(self.hint) != HINT_BYTES:
            raise ValueError(f"a hint has {HINT_BYTES} bytes")

    def encode(self) -> bytes:
        """`01`, or `02` and the hint."""
        return b"\x01" if self.hint is None else b"\x02" + self.hint


@dataclass(frozen=True, slots=True)
class Established:
    """A handshake that has succeeded.

    `remote_static` (32 bytes) and `remote_payload` are what identity must accept before the link is used. `surplus`
    are bytes that came after the handshake: give them to `transport.open`.
    """

    transport: Transport = field(repr=False)
    remote_static: bytes
    remote_payload: bytes = field(repr=False)
    preface: Preface
    surplus: bytes = field(repr=False)


def prologue(mesh: bytes) -> bytes:
    """What both sides must agree on unseen: protocol name, version range, SHA-256 of the mesh id.

    A handshake inside a link has the old session's hash behind it (channel.Rekeying): all lengths differ, so none can
    be taken for another.
    """
    return PROTOCOL + b"\x00" + bytes(VERSIONS) + hashlib.sha256(mesh).digest()


class _Handshake(ABC):
    """What both roles share: the buffers, the framing, and death at the first error."""

    def __init__(self, static: StaticKey) -> None:
        self._static = static
        self._input = bytearray()
        self._output = bytearray()
        self._failed = False
        self._done = False

    def receive(self, data: bytes) -> Established | None:
        """Take bytes of the peer; the result once the handshake is complete, None before. Then send what
        `bytes_to_send()` holds. Raises HandshakeFailed, at every call after a failure or after the result too."""
        if self._failed or self._done:
            raise HandshakeFailed("this handshake is over")
        # Failed until this call has ended well, so that an exception nobody foresaw is the end too: after a failed
        # read noiseprotocol would write on as if nothing had been.
        self._failed = True
        self._input += data
        established = self._advance()
        self._done = established is not None
        self._failed = False
        return established

    def bytes_to_send(self) -> bytes:
        """What the peer must get now; each byte is given once. Raises HandshakeFailed after a failure."""
        if self._failed:
            raise HandshakeFailed("this handshake is over")
        out = bytes(self._output)
        self._output.clear()
        return out

    @abstractmethod
    def _advance(self) -> Established | None:
        """Read and write as many messages as there are; the result once both sides know each other."""

    def _queue(self, message: bytes) -> None:
        self._output += len(message).to_bytes(LENGTH_BYTES, "big") + message

    def _take_message(self, limit: int = MAX_MESSAGE_BYTES) -> bytes | None:
        """The next whole message, or None until it is there. Its length is judged before its bytes are waited for."""
        if len(self._input) < LENGTH_BYTES:
            return None
        size = int.from_bytes(self._input[:LENGTH_BYTES], "big")
        if size > limit:
            raise HandshakeFailed(f"a handshake message of {size} bytes, at most {limit} are read")
        end = LENGTH_BYTES + size
        return self._take(end)[LENGTH_BYTES:] if len(self._input) >= end else None

    def _take(self, count: int) -> bytes:
        taken = bytes(self._input[:count])
        del self._input[:count]
        return taken

    def _established(self, session: Session, payload: bytes, preface: Preface) -> Established:
        surplus = self._take(len(self._input))
        return Established(session.transport(), session.remote_static, payload, preface, surplus)


class Initiator(_Handshake):
    """The side that dialled. Has bytes to send from the start.

    The result comes together with the last message in `bytes_to_send()`: check `remote_payload` before sending it,
    and a refused peer never sees this side's payload. The responder may still refuse that message; its first record
    is the proof that it did not.
    """

    def __init__(self, preface: Preface, secrets: Secrets, static: StaticKey, payload: bytes, prologue: bytes) -> None:
        """Raises ValueError when `payload` is larger than MAX_PAYLOAD_BYTES."""
        super().__init__(static)
        self._preface = preface
        self._payload = _checked(payload)
        self._session = Session(secrets, static, prologue + preface.encode(), initiator=True)
        self._output += preface.encode()
        self._queue(self._session.write(b""))

    def _advance(self) -> Established | None:
        message = self._take_message()
        if message is None:
            return None
        payload = self._session.read(message)
        self._queue(self._session.write(self._payload))
        return self._established(self._session, payload, self._preface)


class Responder(_Handshake):
    """The side that was dialled. Has nothing to send before the first message proved knowledge of the secret.

    `select` gives the secrets a preface may use: one, several (old and new network secret), or None; it is called
    once, when the first message is whole. `payload` is asked for after that message authenticated. What these
    callables raise passes through and ends the handshake.
    """

    def __init__(
        self,
        select: Callable[[Preface], Secrets | Sequence[Secrets] | None],
        static: StaticKey,
        payload: Callable[[Preface], bytes],
        prologue: Callable[[Preface], bytes],
    ) -> None:
        super().__init__(static)
        self._select = select
        self._payload = payload
        self._prologue = prologue
        self._preface: Preface | None = None
        self._session: Session | None = None

    def _advance(self) -> Established | None:
        if self._preface is None:
            self._preface = self._take_preface()
            if self._preface is None:
                return None
        if self._session is None:
            message = self._take_message(FIRST_MESSAGE_BYTES)
            if message is None:
                return None
            self._session = self._authenticate(self._preface, message)
            self._queue(self._session.write(_checked(self._payload(self._preface))))
        message = self._take_message()
        if message is None:
            return None
        return self._established(self._session, self._session.read(message), self._preface)

    def _take_preface(self) -> Preface | None:
        if not self._input:
            return None
        match self._input[0]:
            case 1:
                self._take(1)
                return Preface()
            case 2:
                return Preface(self._take(1 + HINT_BYTES)[1:]) if len(self._input) > HINT_BYTES else None
            case _:
                raise HandshakeFailed("the first byte is not that of a meshnode")

    def _authenticate(self, preface: Preface, message: bytes) -> Session:
        selected = self._select(preface)
        candidates = [selected] if isinstance(selected, Secrets) else selected or []
        mixed = self._prologue(preface) + preface.encode()
        failure: HandshakeFailed | None = None
        for secrets in candidates:
            session = Session(secrets, self._static, mixed, initiator=False)
            try:
                session.read(message)
            except HandshakeFailed as error:
                failure = error
                continue
            return session
        raise HandshakeFailed("a stranger: no secret of this node fits the first message") from failure


def _checked(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a handshake payload of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} fit")
    return payload
