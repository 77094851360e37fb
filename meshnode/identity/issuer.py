"""Whoever may make members and speak to all of them: the root itself, or a member that the root gave the role.

Signs memberships and notices; decides nothing about who deserves them. Not for judging (credential, notices), nor for
keys in files (keep). protocol.md §1.
"""

from __future__ import annotations

from collections.abc import Collection

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import (
    ALL_ROLES,
    BACKDATING_S,
    MAX_CHAIN,
    MEMBERSHIP_CONTEXT,
    MEMBERSHIP_LIFETIME_S,
    Chain,
    MembershipCertificate,
    Role,
    Signed,
    read_membership,
)
from meshnode.identity.keys import MeshRoot, NodeKey
from meshnode.identity.statements import MAX_BODY_BYTES, NOTICE_CONTEXT, Notice, Revocation, Rotation
from meshnode.model import codec
from meshnode.model.ids import NodeId


class Issuer:
    """Makes members of one mesh and signs notices to it."""

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
                "this node may not invite, revoke or rotate: it lacks the role `invite`, or was invited by an invited "
                "node itself; do it on the node that started the mesh"
            )

    @property
    def is_root(self) -> bool:
        """Whether this is the root itself: it gives every role and bars anyone."""
        return self._own is None

    @property
    def id(self) -> bytes:
        """The key that signs: the mesh id for the root, else the member's id."""
        return self._key.public

    @property
    def grantable(self) -> frozenset[Role]:
        """The roles this issuer can give: the root all, a member its own without `invite` (chains end there)."""
        return ALL_ROLES if self._own is None else frozenset(self._own.roles) - {Role.INVITE}

    def issue(
        self,
        node: NodeId,
        now: int,
        serial: int,
        *,
        roles: Collection[Role] | None = None,
        owner: str = "",
        invited_by: bytes = b"",
    ) -> Chain:
        """The chain of a new member, for 30 days or as long as the issuer is a member; `roles` None gives all it can.

        `serial` comes from the system's randomness, below 2**63; `invited_by` is for renewals. Raises
        CertificateRefused for a role it cannot give.
        """
        granted = self.grantable if roles is None else frozenset(roles)
        if not granted <= self.grantable:
            raise CertificateRefused(f"cannot give {', '.join(sorted(granted - self.grantable))}")
        certificate = MembershipCertificate(
            bytes(node),
            tuple(sorted(granted)),
            owner,
            max(0, now - BACKDATING_S),
            self.ends(now),
            serial,
            self.mesh,
            self._key.public,
            invited_by if invited_by != self._key.public else b"",
        )
        body = codec.encode(certificate)
        return (Signed(body, self._key.sign(MEMBERSHIP_CONTEXT, body)), *self._chain)

    def ends(self, now: int) -> int:
        """When a membership made now ends, wall-clock seconds: after 30 days, or with the issuer's own."""
        until = now + MEMBERSHIP_LIFETIME_S
        return until if self._own is None else min(until, self._own.not_after)

    def notice(self, statement: Revocation | Rotation) -> Notice:
        """Sign a statement to all members. Raises CertificateRefused for one that members would not read: another
        mesh's, or more than sixteen kept."""
        if statement.mesh != self.mesh:
            raise CertificateRefused("the statement is for another mesh")
        body = codec.encode(statement)
        if len(body) > MAX_BODY_BYTES:
            raise CertificateRefused(f"a statement of {len(body)} bytes, at most {MAX_BODY_BYTES} travel")
        notice = Notice(body, self._key.sign(NOTICE_CONTEXT, body), self._chain)
        assert notice.statement  # read back, so that nothing is signed that others refuse as unreadable
        return notice
