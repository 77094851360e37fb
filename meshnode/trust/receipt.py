"""Receipts: the server's signature under what it was asked and what it answered, by hashes alone.

A receipt proves that this node's key vouches for these bytes, this model's name and these weights' digest; not that the
weights ran, and nothing to somebody who lacks the bytes. Not for hashing as bytes pass (dispatch) nor storing (keep).
protocol.md §7.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.trust.keys import Digest, Key, Sign, SignatureBytes, WallTime, verified

RECEIPT_CONTEXT = b"meshnode receipt 1\x00"

TRAILER = "meshnode-receipt"
"""Of an answer that was served for another node."""

MAX_RECEIPT_BYTES = 1024
"""The longest names in it make 700; in a trailer a third more."""


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was served. `request` and `answer` are SHA-256 of the body as the server got it and of the answer's bytes as
    it sent them; `tokens` were counted by the engine, else events by this node, 0 where neither could. `at` is the
    server's wall clock."""

    job: Annotated[str, Meta(min_length=1, max_length=128)]
    origin: Key
    server: Key
    request: Digest
    answer: Digest
    model: Annotated[str, Meta(max_length=128)]
    at: WallTime
    digest: Annotated[bytes, Meta(max_length=32)] = b""
    quant: Annotated[str, Meta(max_length=128)] = ""
    tokens: Annotated[int, Meta(ge=0, le=2**40)] = 0


class SignedReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A receipt's bytes as signed, and its server's signature."""

    body: Annotated[bytes, Meta(max_length=MAX_RECEIPT_BYTES)]
    signature: SignatureBytes

    @classmethod
    def sign(cls, receipt: Receipt, sign: Sign) -> Self:
        """Signed with the key of `receipt.server`."""
        body = codec.encode(receipt)
        return cls(body, sign(RECEIPT_CONTEXT, body))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote, bounded. Raises DecodeError."""
        return codec.decode(data, cls, limit=MAX_RECEIPT_BYTES + 80)

    @classmethod
    def of_trailer(cls, text: str) -> Self:
        """Read what `trailer` wrote. Raises DecodeError."""
        if len(text) > 2 * MAX_RECEIPT_BYTES:
            raise DecodeError("a receipt that is too long")
        try:
            return cls.unpack(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            raise DecodeError(f"a receipt that is not base64: {error}") from error

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(self)

    @property
    def trailer(self) -> str:
        """As answers carry it."""
        return base64.b64encode(self.pack()).decode()

    @property
    def receipt(self) -> Receipt:
        """What it says, unverified. Raises DecodeError."""
        return codec.decode(self.body, Receipt, limit=MAX_RECEIPT_BYTES)

    def check(self) -> Receipt:
        """What its server has signed. Raises EvidenceRefused, DecodeError."""
        said = self.receipt
        if not verified(said.server, RECEIPT_CONTEXT + self.body, self.signature):
            raise EvidenceRefused(f"the receipt is not signed by {NodeId(said.server).short}, which it names")
        return said


@dataclass(frozen=True, slots=True)
class Expected:
    """What the origin knows of a request that was answered: its own bytes' hashes, and who answered."""

    job: str
    origin: NodeId
    server: NodeId
    request: bytes
    answer: bytes


def mismatch(said: Receipt, expected: Expected) -> str:
    """What a receipt says otherwise than its origin knows; "" where they agree."""
    known = msgspec.structs.asdict(said)
    pairs = (
        ("job", expected.job), ("origin", bytes(expected.origin)), ("server", bytes(expected.server)),
        ("request", expected.request), ("answer", expected.answer),
    )  # fmt: skip
    return ", ".join(name for name, value in pairs if known[name] != value)
