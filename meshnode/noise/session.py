"""One noiseprotocol connection with its traps covered (protocol.md §2). Only this and backend.py import it.

Not for framing or the order of messages (handshake), nor for what comes after (transport). Whoever gets an error from
a Session lets it go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.connection import NoiseConnection
from noise.exceptions import (
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    NoisePSKError,
    NoiseValidationError,
    NoiseValueError,
)

from meshnode.errors import HandshakeFailed
from meshnode.model.psk import Secrets
from meshnode.noise.backend import BACKEND, KeyPair
from meshnode.noise.transport import Transport

SUITE = b"Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256"
"""The only name ever given to noiseprotocol, which does not check names well (protocol.md §2)."""

_FOREIGN = (
    InvalidTag,
    ValueError,
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    NoisePSKError,
    NoiseValidationError,
    NoiseValueError,
)


class StaticKey:
    """An X25519 pair for the handshake's `s`: in memory only, made anew at each start and every 24 h."""

    __slots__ = ("pair", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self.public: bytes = private.public_key().public_bytes_raw()
        # As noiseprotocol wants it, made once: reading the private bytes again costs a handshake as much as its DH.
        self.pair = KeyPair(private, private.public_key(), self.public)  # type: ignore[no-untyped-call]

    @classmethod
    def generate(cls) -> StaticKey:
        """A new pair from the system's randomness."""
        return cls(X25519PrivateKey.generate())


class Session:
    """One handshake in one role; reads and writes in the order of the pattern."""

    def __init__(self, secrets: Secrets, static: StaticKey, prologue: bytes, *, initiator: bool) -> None:
        connection: Any = NoiseConnection.from_name(SUITE, BACKEND)
        connection.set_psks(psks=[secrets.psk0, secrets.psk3])
        connection.set_prologue(prologue)
        connection.noise_protocol.keypairs["s"] = static.pair
        if initiator:
            connection.set_as_initiator()
        else:
            connection.set_as_responder()
        connection.start_handshake()
        self._connection = connection
        # The last message deletes it from the connection, and the remote static key with it.
        self._state = connection.noise_protocol.handshake_state

    def read(self, message: bytes) -> bytes:
        """The payload of the peer's message. Raises HandshakeFailed; this session is then of no further use."""
        with _mapped():
            return bytes(self._connection.read_message(message))

    def write(self, payload: bytes) -> bytes:
        """The next message. Raises HandshakeFailed."""
        with _mapped():
            return bytes(self._connection.write_message(payload))

    @property
    def remote_static(self) -> bytes:
        """The peer's X25519 key, 32 bytes, once it has arrived."""
        return bytes(self._state.rs.public_bytes)

    def transport(self) -> Transport:
        """The keys of the finished handshake in ciphers of our own: noiseprotocol's are slower and check less."""
        protocol = self._connection.noise_protocol
        binding = self._connection.get_handshake_hash()
        return Transport(protocol.cipher_state_encrypt.k, protocol.cipher_state_decrypt.k, binding)


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except _FOREIGN as error:
        raise HandshakeFailed(
            "a handshake message does not fit: another secret, mesh or version at the other end, or damaged bytes"
        ) from error
