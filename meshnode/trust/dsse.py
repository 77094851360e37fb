"""DSSE envelopes: a typed payload and signatures over both (secure-systems-lab's Dead Simple Signing Envelope 1.0).

Plain JSON, so that other tools (cosign, in-toto) can make and check them. Not for what a payload means (manifest.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError
from meshnode.model.ids import NodeId
from meshnode.trust.keys import SignRaw, verified

MAX_ENVELOPE_BYTES = 64 * 1024
"""A manifest of 256 files has half as much."""

MAX_SIGNATURES = 4
"""An operator, a vendor, and their successors: each costs a verification."""

_SIGNATURE_BYTES = 64


class Signature(msgspec.Struct, frozen=True):
    """One signature, in base64. `keyid` is a hint, believed by nobody: here the key's own text."""

    sig: Annotated[str, Meta(max_length=128)]
    keyid: Annotated[str, Meta(max_length=128)] = ""


class Envelope(msgspec.Struct, frozen=True, rename={"kind": "payloadType"}):
    """A payload in base64, its type, and who signed both."""

    payload: Annotated[str, Meta(max_length=MAX_ENVELOPE_BYTES)]
    kind: Annotated[str, Meta(min_length=1, max_length=128)]
    signatures: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]

    @classmethod
    def sign(cls, kind: str, payload: bytes, key: bytes, sign: SignRaw) -> Self:
        """An envelope with one signature, by the key whose public half is `key`."""
        signature = Signature(_text(sign(pae(kind, payload))), NodeId(key).text)
        return cls(_text(payload), kind, (signature,))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read an envelope, bounded. Raises DecodeError. The signatures are the caller's to check: `open`."""
        if len(data) > MAX_ENVELOPE_BYTES:
            raise DecodeError(f"an envelope of {len(data)} bytes, at most {MAX_ENVELOPE_BYTES} are read")
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DecodeError(f"not a DSSE envelope: {error}") from error

    def pack(self) -> bytes:
        """The JSON."""
        return msgspec.json.encode(self)

    def open(self, kind: str, keys: Collection[bytes]) -> tuple[bytes, bytes] | None:
        """The payload and which of `keys` signed it as `kind`; None when none did. Raises DecodeError for what is not
        base64. Nothing of the payload is looked at before."""
        payload = _bytes(self.payload)
        if self.kind != kind:
            return None
        message = pae(kind, payload)
        for signature in self.signatures:
            raw = _bytes(signature.sig)
            # The hint spares tries where it is one of ours; another tool's may be anything.
            hinted = [key for key in keys if NodeId(key).text == signature.keyid]
            for key in hinted or keys:
                if len(raw) == _SIGNATURE_BYTES and verified(key, message, raw):
                    return payload, key
        return None


def pae(kind: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed. Type and payload cannot be cut another way."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """Standard or URL-safe base64, as the specification lets either be written."""
    try:
        return base64.b64decode(text.translate(_TO_STANDARD), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"an envelope with something that is not base64: {error}") from error


_TO_STANDARD = str.maketrans("-_", "+/")
