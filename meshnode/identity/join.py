"""The two messages of joining, over a link whose handshake used an invite's keys.

The joiner's key is proved by its link certificate in the handshake; the inviter's by its own and by the invite, which
names it. Not for the link (mesh.join) nor for the invite (invites). Counterpart: each function names its side.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import Chain, Issuer, Key, Owner, Signed
from meshnode.identity.credential import check_chain
from meshnode.identity.mesh import Mesh
from meshnode.model import codec
from meshnode.model.ids import NodeId

MAX_MESSAGE_BYTES = 4096
"""A grant with two certificates and sixteen addresses needs less than 3 KiB."""

Address = Annotated[str, Meta(max_length=128)]


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="join", tag_field="t"):
    """Joiner to inviter: its id, its readable name, and whose machine it is."""

    id: Key
    name: Annotated[str, Meta(max_length=128)] = ""
    owner: Owner = ""

    def pack(self) -> bytes:
        """Canonical CBOR."""
        return codec.encode(msgspec.structs.replace(self, id=bytes(self.id)))

    @classmethod
    def unpack(cls, data: bytes) -> JoinRequest:
        """Raises DecodeError."""
        return codec.decode(data, cls, limit=MAX_MESSAGE_BYTES)


class JoinGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="grant", tag_field="t"):
    """Inviter to joiner: the mesh with its secret, the joiner's chain, and addresses of members to dial."""

    mesh: Mesh
    chain: Annotated[tuple[Signed, ...], Meta(max_length=8)]
    addresses: Annotated[tuple[Address, ...], Meta(max_length=16)] = ()

    def pack(self) -> bytes:
        """Canonical CBOR. Holds the network secret: only ever sent over the invite's link."""
        return codec.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> JoinGrant:
        """Raises DecodeError."""
        return codec.decode(data, cls, limit=MAX_MESSAGE_BYTES)


def make_grant(
    issuer: Issuer,
    mesh: Mesh,
    request: JoinRequest,
    joiner: NodeId,
    now: int,
    serial: int,
    addresses: tuple[str, ...] = (),
) -> JoinGrant:
    """The inviter's answer. `joiner` is the id that check_join_payload gave; burn the invite before sending this.

    Raises CertificateRefused when the request names another node.
    """
    if request.id != joiner:
        raise CertificateRefused("the join request names another node than the handshake")
    return JoinGrant(mesh, issuer.issue(joiner, now, serial, owner=request.owner), addresses)


def accept_grant(grant: JoinGrant, mesh_id: bytes, myself: NodeId, now: int) -> tuple[Mesh, Chain]:
    """The joiner's check: the mesh of the invite, and a chain that makes this node a member.

    Raises CertificateRefused.
    """
    if grant.mesh.id != mesh_id:
        raise CertificateRefused("the grant is for another mesh than the invite")
    check_chain(grant.chain, myself, mesh_id, now)
    return grant.mesh, grant.chain
