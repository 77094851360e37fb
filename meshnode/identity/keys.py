"""Ed25519 keys (RFC 8032): of a node, which is its identity, and of a mesh's root. One key, one use.

Every signature is bound to a context, so that bytes signed for one purpose mean nothing for another. Not for X25519
(noise): Ed25519 keys are never converted. Not for storing (keep).
"""

from __future__ import annotations

from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from meshnode.errors import IdentityError
from meshnode.model.ids import NodeId

SEED_BYTES = 32
SIGNATURE_BYTES = 64

_DSSE = b"DSSEv1 "


class _SigningKey:
    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of a 32-byte seed. Raises IdentityError for another length."""
        if len(seed) != SEED_BYTES:
            raise IdentityError(f"a key seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        """The 32 bytes that are the key. For keep only."""
        return self._private.private_bytes_raw()

    def sign(self, context: bytes, body: bytes) -> bytes:
        """64 bytes over `context + body`. A context ends with its only NUL, so that none is a prefix of another;
        raises ValueError otherwise."""
        return self._private.sign(_in_context(context, body))

    def sign_envelope(self, encoding: bytes) -> bytes:
        """64 bytes over a DSSE pre-authentication encoding, which says itself what it is of: no context begins so.
        Raises ValueError for anything else."""
        if not encoding.startswith(_DSSE):
            raise ValueError("not a DSSE encoding")
        return self._private.sign(encoding)


class NodeKey(_SigningKey):
    """A node's identity. It survives restarts and upgrades."""

    __slots__ = ()

    @property
    def id(self) -> NodeId:
        """The node's id: the public key."""
        return NodeId(self.public)


class MeshRoot(_SigningKey):
    """The key that a mesh begins with; its public half is the mesh id."""

    __slots__ = ()

    @property
    def mesh(self) -> bytes:
        """The mesh id, 32 bytes."""
        return self.public


def verify(node_id: bytes, context: bytes, body: bytes, signature: bytes) -> bool:
    """Whether the key with this public half signed `body` in this context."""
    message = _in_context(context, body)
    try:
        Ed25519PublicKey.from_public_bytes(node_id).verify(signature, message)
    except (InvalidSignature, ValueError):
        # ValueError: not 32 bytes, so nobody's key.
        return False
    return True


def _in_context(context: bytes, body: bytes) -> bytes:
    if context.count(b"\x00") != 1 or not context.endswith(b"\x00"):
        raise ValueError(f"a signature context ends with its only NUL: {context!r}")
    return context + body
