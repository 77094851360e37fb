"""Certificates: a node vouches for its handshake key, a mesh vouches for its node.

Each is canonical CBOR, signed in a context of its own; signed bytes travel as they were signed. What they say is
here; issuer.py makes memberships and credential.py judges. Not for revocations (notices). protocol.md §1.
"""

from __future__ import annotations

import enum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity.keys import SIGNATURE_BYTES, NodeKey
from meshnode.model import codec

LINK_CONTEXT = b"meshnode link certificate 1\x00"
MEMBERSHIP_CONTEXT = b"meshnode membership certificate 1\x00"

BACKDATING_S = 300
"""A certificate begins this long before it was made: the checker's clock may be so far behind."""

LINK_LIFETIME_S = 24 * 3600
"""A stolen handshake key is of no use for longer (protocol.md §1)."""

MEMBERSHIP_LIFETIME_S = 30 * 24 * 3600
"""At most; a forgotten machine leaves the mesh by itself (protocol.md §1)."""

MAX_CHAIN = 2
"""Certificates from a node to the root: its own and, where a member invited it, that member's."""

MAX_CERTIFICATE_BYTES = 512
"""The largest has 480: four-byte characters throughout its owner."""

MAX_CHAIN_BYTES = MAX_CHAIN * (MAX_CERTIFICATE_BYTES + SIGNATURE_BYTES + 6) + 1
"""A whole chain as it travels in adverts and renewals, its CBOR heads included."""

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
WallTime = Annotated[int, Meta(ge=0, le=2**40)]
Owner = Annotated[str, Meta(max_length=64)]


class Role(enum.StrEnum):
    """What a member may do."""

    CLIENT = "client"
    INVITE = "invite"
    RELAY = "relay"
    SERVE = "serve"


T = TypeVar("T")

ALL_ROLES = frozenset(Role)


class LinkCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """`id` uses the handshake key `x25519` in `mesh`, from `not_before` to `not_after` (wall-clock seconds, both
    included)."""

    id: Key
    x25519: Key
    not_before: WallTime
    not_after: WallTime
    mesh: Key


class MembershipCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """`issuer` (the mesh id, or a member with role `invite`) vouches that `node` is a member with `roles`.

    `serial` tells certificates of one node apart; `owner` is whose machine it is, empty for nobody's in particular.
    `invited_by` is the member that let the node in, where the root has renewed it since; empty: the issuer itself.
    """

    node: Key
    roles: Annotated[tuple[Role, ...], Meta(max_length=len(Role))]
    owner: Owner
    not_before: WallTime
    not_after: WallTime
    serial: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    mesh: Key
    issuer: Key
    invited_by: Annotated[bytes, Meta(max_length=32)] = b""

    def __post_init__(self) -> None:
        if list(self.roles) != sorted(set(self.roles)):
            raise ValueError("roles are sorted and each stands once")
        if len(self.invited_by) not in (0, 32):
            raise ValueError("invited_by is a node id or nothing")

    @property
    def inviter(self) -> bytes:
        """Who let this node in: a member's id, or the mesh id for the root."""
        return self.invited_by or self.issuer


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The bytes of a certificate as they were signed, and the signature."""

    body: Annotated[bytes, Meta(max_length=MAX_CERTIFICATE_BYTES)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


Chain = tuple[Signed, ...]
"""Membership certificates, the node's own first, each vouched for by the next, the last by the root."""

_PackedChain = Annotated[tuple[Signed, ...], Meta(max_length=MAX_CHAIN)]


def certify_link(key: NodeKey, x25519: bytes, mesh: bytes, now: int) -> Signed:
    """A link certificate for 24 h, back-dated by 300 s."""
    certificate = LinkCertificate(key.public, x25519, max(0, now - BACKDATING_S), now + LINK_LIFETIME_S, mesh)
    body = codec.encode(certificate)
    return Signed(body, key.sign(LINK_CONTEXT, body))


def read_membership(signed: Signed) -> MembershipCertificate:
    """What a membership certificate says, unverified. Raises CertificateRefused when it cannot be read."""
    return _read(signed, MembershipCertificate)


def read_link(signed: Signed) -> LinkCertificate:
    """What a link certificate says, unverified. Raises CertificateRefused when it cannot be read."""
    return _read(signed, LinkCertificate)


def pack_chain(chain: Chain) -> bytes:
    """A chain as adverts and answers to renewals carry it: canonical CBOR."""
    return codec.encode(chain)


def unpack_chain(data: bytes) -> Chain:
    """Read what pack_chain wrote. Raises CertificateRefused. Nothing in it is verified."""
    try:
        return codec.decode(data, _PackedChain, limit=MAX_CHAIN_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"a chain of certificates cannot be read: {error}") from error


def _read(signed: Signed, kind: type[T]) -> T:
    try:
        return codec.decode(signed.body, kind, limit=MAX_CERTIFICATE_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"a certificate cannot be read: {error}") from error
