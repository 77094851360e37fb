"""Certificates: a node vouches for its handshake key, a mesh vouches for its node.

Each is canonical CBOR, signed in a context of its own; signed bytes travel as they were signed. Here they are made;
credential.py judges them. Not for revocation lists. protocol.md §1.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity.keys import SIGNATURE_BYTES, MeshRoot, NodeKey
from meshnode.model import codec
from meshnode.model.ids import NodeId

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

    `serial` names this certificate in a revocation; `owner` is whose machine it is, empty for nobody's in particular.
    """

    node: Key
    roles: Annotated[tuple[Role, ...], Meta(max_length=len(Role))]
    owner: Owner
    not_before: WallTime
    not_after: WallTime
    serial: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    mesh: Key
    issuer: Key

    def __post_init__(self) -> None:
        if list(self.roles) != sorted(set(self.roles)):
            raise ValueError("roles are sorted and each stands once")


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The bytes of a certificate as they were signed, and the signature."""

    body: Annotated[bytes, Meta(max_length=MAX_CERTIFICATE_BYTES)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


Chain = tuple[Signed, ...]
"""Membership certificates, the node's own first, each vouched for by the next, the last by the root."""


def certify_link(key: NodeKey, x25519: bytes, mesh: bytes, now: int) -> Signed:
    """A link certificate for 24 h, back-dated by 300 s."""
    certificate = LinkCertificate(key.public, x25519, max(0, now - BACKDATING_S), now + LINK_LIFETIME_S, mesh)
    body = codec.encode(certificate)
    return Signed(body, key.sign(LINK_CONTEXT, body))


class Issuer:
    """Whoever may make members: the root itself, or a member that the root gave the role `invite`."""

    def __init__(self, key: MeshRoot | NodeKey, mesh: bytes, chain: Chain = ()) -> None:
        """`chain` is the issuer's own, empty for the root. Raises CertificateRefused when it may not invite."""
        self.mesh = mesh
        self._key = key
        self._chain = chain
        self._own = read_membership(chain[0]) if chain else None
        if self._own is None and key.public != mesh:
            raise CertificateRefused("only the root of a mesh makes members without being one")
        if self._own is not None and (Role.INVITE not in self._own.roles or len(chain) >= MAX_CHAIN):
            raise CertificateRefused(
                "this node may not invite: it lacks the role, or was invited by an invited node itself; "
                "invite from the node that started the mesh"
            )

    @property
    def grantable(self) -> frozenset[Role]:
        """The roles this issuer can give: the root all, a member its own without `invite` (chains end there)."""
        return ALL_ROLES if self._own is None else frozenset(self._own.roles) - {Role.INVITE}

    def issue(
        self, node: NodeId, now: int, serial: int, *, roles: Collection[Role] | None = None, owner: str = ""
    ) -> Chain:
        """The chain of a new member, for 30 days or as long as the issuer is a member; `roles` None gives all it can.
        `serial` comes from the system's randomness, below 2**63. Raises CertificateRefused for a role it cannot give.
        """
        granted = self.grantable if roles is None else frozenset(roles)
        if not granted <= self.grantable:
            raise CertificateRefused(f"cannot give {', '.join(sorted(granted - self.grantable))}")
        until = now + MEMBERSHIP_LIFETIME_S
        if self._own is not None:
            until = min(until, self._own.not_after)
        certificate = MembershipCertificate(
            bytes(node),
            tuple(sorted(granted)),
            owner,
            max(0, now - BACKDATING_S),
            until,
            serial,
            self.mesh,
            self._key.public,
        )
        body = codec.encode(certificate)
        return (Signed(body, self._key.sign(MEMBERSHIP_CONTEXT, body)), *self._chain)


def read_membership(signed: Signed) -> MembershipCertificate:
    """What a membership certificate says, unverified. Raises CertificateRefused when it cannot be read."""
    return _read(signed, MembershipCertificate)


def read_link(signed: Signed) -> LinkCertificate:
    """What a link certificate says, unverified. Raises CertificateRefused when it cannot be read."""
    return _read(signed, LinkCertificate)


def _read(signed: Signed, kind: type[T]) -> T:
    try:
        return codec.decode(signed.body, kind, limit=MAX_CERTIFICATE_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"a certificate cannot be read: {error}") from error
