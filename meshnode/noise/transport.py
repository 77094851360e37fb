"""Records over any cut of bytes: what a finished handshake leaves behind. The hot path of every link.

A record is a 2-byte big-endian length and one Noise transport message (ChaCha20-Poly1305, empty associated data,
nonce counted from zero; Noise specification section 5.1 and 11.3). Not for what records mean nor for changing keys
(channel). Counterpart: the Transport at the other end.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from meshnode.errors import ProtocolViolation, Tampered

TAG_BYTES = 16
LENGTH_BYTES = 2

MAX_PLAINTEXT_BYTES = 65_535 - TAG_BYTES
"""Noise messages have at most 65,535 bytes (section 3), the tag included. noiseprotocol would encrypt more."""

WORN_MESSAGES = 1 << 32
WORN_BYTES = 64 << 30
"""After so much in one direction the keys are due for renewal (protocol.md §2)."""

_LAST_NONCE = (1 << 64) - 1
"""Reserved by section 5.1: never used for a message."""

_nonce = struct.Struct("<4xQ").pack
"""Section 12.3: 32 zero bits, then the counter little-endian."""


class Volume(NamedTuple):
    """What one direction has carried: messages, and bytes of plaintext."""

    messages: int
    bytes: int


class Transport:
    """Both directions of an established link, under the keys of one handshake.

    `binding` is that handshake's hash (Noise specification section 11.2): what a later handshake is bound to. Any
    error, foreseen or not, is the end: every later call raises ProtocolViolation.
    """

    __slots__ = (
        "_buffer", "_dead", "_opened", "_opened_bytes", "_opener", "_sealed", "_sealed_bytes", "_sealer", "binding",
    )  # fmt: skip

    def __init__(self, send_key: bytes, receive_key: bytes, binding: bytes = b"") -> None:
        self.binding = binding
        self._sealer = ChaCha20Poly1305(send_key)
        self._opener = ChaCha20Poly1305(receive_key)
        self._sealed = self._opened = 0
        self._sealed_bytes = self._opened_bytes = 0
        self._buffer = bytearray()
        self._dead = False

    def seal(self, plaintext: bytes) -> bytes:
        """One record for the wire from 1..65,519 bytes. Raises ValueError for another size, ProtocolViolation when
        this transport has already failed or used up its nonces."""
        self._start()
        size = len(plaintext)
        if not 0 < size <= MAX_PLAINTEXT_BYTES:
            raise ValueError(f"a record carries 1..{MAX_PLAINTEXT_BYTES} bytes, not {size}")
        number = self._sealed
        if number >= _LAST_NONCE:
            raise ProtocolViolation("every nonce of this transport is used")
        message = self._sealer.encrypt(_nonce(number), plaintext, None)
        self._sealed = number + 1
        self._sealed_bytes += size
        self._dead = False
        return len(message).to_bytes(LENGTH_BYTES, "big") + message

    def open(self, data: bytes, until: int = 256) -> list[bytes]:
        """The plaintexts that `data`, after what came before, completes. Any cut of the wire gives the same ones.

        Stops after one whose first byte is `until` or more: what follows may be under other keys. Open b"" to go on.
        Raises Tampered for a record that is too short, forged, replayed or out of order; good records that
        the same call had completed before it are lost with the link.
        """
        self._start()
        self._buffer += data
        # Views instead of slices: each byte is copied once into the buffer, once out by the cipher.
        with memoryview(self._buffer) as view:
            plaintexts, used = self._open_records(view, until)
        del self._buffer[:used]
        self._dead = False
        return plaintexts

    def peek(self, data: bytes) -> bytes | None:
        """The first record of `data` without taking it, None until it is whole. Raises ProtocolViolation."""
        size = int.from_bytes(data[:LENGTH_BYTES], "big")
        if len(data) < LENGTH_BYTES + max(size, 1):
            return None
        if size <= TAG_BYTES:
            raise Tampered(f"a record of {size} bytes carries nothing")
        try:
            return self._opener.decrypt(_nonce(self._opened), data[LENGTH_BYTES : LENGTH_BYTES + size], None)
        except InvalidTag as error:
            raise Tampered("a record is forged, damaged, replayed or out of order") from error

    def take_rest(self) -> bytes:
        """The bytes that are no whole record yet, or come after where `open` stopped. Then this direction is over."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _open_records(self, view: memoryview, until: int) -> tuple[list[bytes], int]:
        plaintexts: list[bytes] = []
        start, end = 0, len(view)
        while end - start >= LENGTH_BYTES:
            size = (view[start] << 8) | view[start + 1]
            if size <= TAG_BYTES:
                raise Tampered(f"a record of {size} bytes carries nothing")
            stop = start + LENGTH_BYTES + size
            if stop > end:
                break
            plaintext = self._decrypt(view[start + LENGTH_BYTES : stop])
            plaintexts.append(plaintext)
            start = stop
            if plaintext[0] >= until:
                break
        return plaintexts, start

    def _decrypt(self, message: memoryview) -> bytes:
        if self._opened >= _LAST_NONCE:
            raise ProtocolViolation("every nonce of this transport is used")
        with message:
            try:
                plaintext = self._opener.decrypt(_nonce(self._opened), message, None)
            except InvalidTag as error:
                raise Tampered("a record is forged, damaged, replayed or out of order") from error
        self._opened += 1
        self._opened_bytes += len(plaintext)
        return plaintext

    def _start(self) -> None:
        """Dead until the call has ended well, so that an exception nobody foresaw is the end too."""
        if self._dead:
            raise ProtocolViolation("this transport has failed before")
        self._dead = True

    @property
    def sealed(self) -> Volume:
        """What `seal` has encrypted."""
        return Volume(self._sealed, self._sealed_bytes)

    @property
    def opened(self) -> Volume:
        """What `open` has decrypted."""
        return Volume(self._opened, self._opened_bytes)

    @property
    def worn(self) -> bool:
        """Whether either direction has carried so much that the link should handshake anew."""
        return max(self._sealed, self._opened) >= WORN_MESSAGES or (
            max(self._sealed_bytes, self._opened_bytes) >= WORN_BYTES
        )
