"""What the root, or a member that may invite, says to all members: somebody is out, the network secret is new.

A notice is the signed bytes of one statement and the chain of whoever signed it. Here is its form; notices.py judges
and keeps, issuer.py signs. Not for carrying (mesh). protocol.md §1.
"""

from __future__ import annotations

from typing import Annotated, cast

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity.certificates import Key, Signed, WallTime, read_membership
from meshnode.identity.keys import SIGNATURE_BYTES
from meshnode.model import codec
from meshnode.model.ids import NodeId

NOTICE_CONTEXT = b"meshnode notice 1\x00"

MAX_KEPT = 16
"""Members of a revoked inviter that stay: what a person names one by one. More are invited again."""

MAX_BODY_BYTES = 1024
"""A revocation that keeps sixteen has 640."""

MAX_NOTICE_BYTES = 2048
"""The largest body, two signatures and one certificate need 1,700."""


ROOT_LEAD = 1000
"""How far the root's generations may be ahead of the clock, and members' may not: whoever counts up as far as members
may is overtaken at once."""


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="revocation"):
    """`node` is out for ever since `at` (wall-clock seconds), and those whom it invited, but for `kept`."""

    mesh: Key
    node: Key
    at: WallTime
    kept: Annotated[tuple[Key, ...], Meta(max_length=MAX_KEPT)] = ()


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag="rotation"):
    """The network secret is `secret` since `at` (wall-clock seconds). The higher `generation` wins.

    A member's generation is at most `at`, the root's at most `at + ROOT_LEAD`: nobody can use the numbers up.
    """

    mesh: Key
    generation: Annotated[int, Meta(ge=1, le=2**41)]
    secret: Key
    at: WallTime

    def __repr__(self) -> str:
        return f"Rotation(generation={self.generation}, at={self.at})"


Statement = Revocation | Rotation


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A statement's bytes as signed, and the chain of its signer: empty for the root, whose key is the mesh id."""

    body: Annotated[bytes, Meta(max_length=MAX_BODY_BYTES)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
    chain: Annotated[tuple[Signed, ...], Meta(max_length=1)] = ()

    def __repr__(self) -> str:
        # The body of a rotation is the network secret.
        return f"Notice({len(self.body)} bytes, by {'a member' if self.chain else 'the root'})"

    @property
    def statement(self) -> Statement:
        """What it says, unverified. Raises CertificateRefused when it cannot be read."""
        try:
            return cast("Statement", codec.decode(self.body, Statement, limit=MAX_BODY_BYTES))  # type: ignore[arg-type]
        except DecodeError as error:
            raise CertificateRefused(f"a notice cannot be read: {error}") from error

    @property
    def member(self) -> NodeId | None:
        """The member that it says signed it, unverified; None for the root. Raises CertificateRefused."""
        return NodeId(read_membership(self.chain[0]).node) if self.chain else None

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Notice:
        """Read what pack wrote, bounded. Raises DecodeError; what it says may still be unreadable."""
        return codec.decode(data, cls, limit=MAX_NOTICE_BYTES)
