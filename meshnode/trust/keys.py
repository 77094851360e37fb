"""Ed25519 verification, and the kinds of values that this room's signatures are made of.

Not for signing: that is a callable of whoever holds a key (identity.NodeKey). One key, one use, one context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from meshnode.errors import ConfigError, DecodeError
from meshnode.model.ids import NodeId

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
SignatureBytes = Annotated[bytes, Meta(min_length=64, max_length=64)]
WallTime = Annotated[int, Meta(ge=0, le=2**40)]

Sign = Callable[[bytes, bytes], bytes]
"""Signs (context, body): NodeKey.sign."""

SignRaw = Callable[[bytes], bytes]
"""Signs what says itself what it is, as a DSSE encoding does: NodeKey.sign_envelope."""


def verified(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the key with this public half signed exactly `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        # ValueError: not 32 bytes, so nobody's key.
        return False
    return True


def parse_keys(texts: Iterable[str], setting: str) -> frozenset[bytes]:
    """Public keys of a setting, written as node ids are. Raises ConfigError with every fault."""
    found, faults = set(), []
    for text in texts:
        try:
            found.add(bytes(NodeId.parse(text)))
        except DecodeError as error:
            faults.append(f"{setting}: {error}")
    if faults:
        raise ConfigError(faults)
    return frozenset(found)
