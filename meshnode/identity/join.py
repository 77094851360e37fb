"""The two messages of joining, over a link whose handshake used an invite's keys.

The joiner's key is proved by its link certificate in the handshake; the inviter's by its own and by the invite, which
names it. What is granted is what the inviter's book says, never what the joiner asks for. Not for the link (mesh.join)
nor for the invite (invites). Counterpart: each function names its side.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import Chain, Key, Signed
from meshnode.identity.credential import check_chain
from meshnode.identity.invites import StoredInvite
from meshnode.identity.issuer import Issuer
from meshnode.identity.keys import MeshRoot
from meshnode.identity.mesh import Mesh
from meshnode.identity.statements import Notice, Revocation
from meshnode.model import codec
from meshnode.model.ids import NodeId

MAX_REQUEST_BYTES = 1024
MAX_GRANT_BYTES = 8192
"""Secrets, two certificates and sixteen addresses need less than 4 KiB; notices have the rest."""

MAX_NOTICES = 64
_LIST_HEAD_BYTES = 3

Address = Annotated[str, Meta(max_length=128)]


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="join", tag_field="t"):
    """Joiner to inviter: its id and its readable name."""

    id: Key
    name: Annotated[str, Meta(max_length=128)] = ""

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(msgspec.structs.replace(self, id=bytes(self.id)))

    @classmethod
    def unpack(cls, data: bytes) -> JoinRequest:
        """Raises DecodeError."""
        return codec.decode(data, cls, limit=MAX_REQUEST_BYTES)


class JoinGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="grant", tag_field="t"):
    """Inviter to joiner: the mesh with its secrets, the joiner's chain, and addresses of members to dial.

    `root_seed` makes the joiner a second holder of the root. `notices` are the newest revocations, so that it does not
    let in somebody revoked before it has met the others; it hears all on its first link.
    """

    mesh: Mesh
    chain: Annotated[tuple[Signed, ...], Meta(max_length=8)]
    addresses: Annotated[tuple[Address, ...], Meta(max_length=16)] = ()
    root_seed: Key | None = None
    notices: Annotated[tuple[Notice, ...], Meta(max_length=MAX_NOTICES)] = ()

    def __repr__(self) -> str:
        return f"JoinGrant({self.mesh!r}, root: {self.root_seed is not None}, notices: {len(self.notices)})"

    def pack(self) -> bytes:
        """Canonical CBOR. Holds the network secret: only ever sent over the invite's link."""
        return codec.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> JoinGrant:
        """Raises DecodeError."""
        return codec.decode(data, cls, limit=MAX_GRANT_BYTES)


def make_grant(
    issuer: Issuer,
    mesh: Mesh,
    request: JoinRequest,
    joiner: NodeId,
    now: int,
    serial: int,
    invite: StoredInvite,
    addresses: tuple[str, ...] = (),
    root_seed: bytes | None = None,
    notices: tuple[Notice, ...] = (),
) -> JoinGrant:
    """The inviter's answer to `joiner`, the id that the handshake proved. Burn the invite first: it says what is
    granted. The root's seed goes only with an invite made for that; of `notices` as many revocations as fit.

    Raises CertificateRefused when the request names another node, or the issuer cannot give what the invite promised.
    """
    if request.id != joiner:
        raise CertificateRefused("the join request names another node than the handshake")
    if invite.root and root_seed is None:
        raise CertificateRefused("the invite promised the root, which this node does not hold (any more)")
    chain = issuer.issue(joiner, now, serial, roles=invite.roles, owner=invite.owner)
    grant = JoinGrant(mesh, chain, addresses, root_seed if invite.root else None)
    return msgspec.structs.replace(grant, notices=_that_fit(notices, MAX_GRANT_BYTES - len(grant.pack())))


def accept_grant(grant: JoinGrant, mesh_id: bytes, myself: NodeId, now: int) -> tuple[Mesh, Chain]:
    """The joiner's check: the mesh of the invite, a chain that makes this node a member, and the root's own seed where
    there is one. Notices are for `Notices.add` to judge. Raises CertificateRefused.
    """
    if grant.mesh.id != mesh_id:
        raise CertificateRefused("the grant is for another mesh than the invite")
    if grant.root_seed is not None and MeshRoot.from_seed(grant.root_seed).mesh != mesh_id:
        raise CertificateRefused("the grant's root is another mesh's")
    check_chain(grant.chain, myself, mesh_id, now)
    return grant.mesh, grant.chain


def _that_fit(notices: tuple[Notice, ...], room_bytes: int) -> tuple[Notice, ...]:
    """The newest revocations that fit. Rotations are in the mesh already."""
    revocations = [notice for notice in notices if isinstance(notice.statement, Revocation)]
    chosen: list[Notice] = []
    room_bytes -= _LIST_HEAD_BYTES
    for notice in sorted(revocations, key=lambda known: known.statement.at, reverse=True)[:MAX_NOTICES]:
        room_bytes -= len(notice.pack())
        if room_bytes < 0:
            break
        chosen.append(notice)
    return tuple(chosen)
