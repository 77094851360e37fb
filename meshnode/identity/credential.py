"""The handshake payload: who I am, and why the mesh should believe it. Made by one side, judged by the other.

Judging here needs no state: certificates, the handshake's remote static key, the mesh id and the time. Not for trust
beyond membership: revocation, pins, names (trust.py). Counterpart: certificates.py and issuer.py make what is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity.certificates import (
    BACKDATING_S,
    LINK_CONTEXT,
    LINK_LIFETIME_S,
    MAX_CHAIN,
    MEMBERSHIP_CONTEXT,
    MEMBERSHIP_LIFETIME_S,
    Chain,
    LinkCertificate,
    MembershipCertificate,
    Role,
    Signed,
    read_link,
    read_membership,
)
from meshnode.identity.keys import verify
from meshnode.identity.pins import check_name
from meshnode.model import codec
from meshnode.model.ids import NodeId

MAX_PAYLOAD_BYTES = 1952
"""What a handshake message of 2,048 bytes leaves for its payload (noise.handshake)."""

MAX_NAME = 64
"""Characters of a node's readable name."""


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A link certificate, the chain that makes its node a member (empty for a joiner), and its readable name."""

    link: Signed
    # Longer chains are refused by name, not by the schema.
    chain: Annotated[tuple[Signed, ...], Meta(max_length=8)] = ()
    name: Annotated[str, Meta(max_length=MAX_NAME)] = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """A member, checked. `until` is when the first of its certificates ends, wall-clock seconds.

    `certificate` is the first of `chain`; None in psk-tofu, and for a joiner, who has no roles either. `name` is its
    own word. `static` is the X25519 key that it showed in a handshake; empty for one known by its advert.
    """

    node: NodeId
    name: str
    roles: frozenset[Role]
    owner: str
    until: int
    chain: Chain
    certificate: MembershipCertificate | None
    static: bytes = b""

    def may(self, role: Role) -> bool:
        """Whether it has the role."""
        return role in self.roles

    @property
    def vouchers(self) -> frozenset[NodeId]:
        """With whom it is out when the root revokes them: who invited it, and who signed its certificate."""
        own = self.certificate
        return frozenset() if own is None else frozenset({NodeId(own.inviter), NodeId(own.issuer)})

    @property
    def invited_by(self) -> NodeId | None:
        """Who let it in: a member's id, or the mesh id for the root; None where there is no certificate."""
        return NodeId(self.certificate.inviter) if self.certificate is not None else None


def pack_payload(link: Signed, chain: Chain, name: str = "") -> bytes:
    """A member's handshake payload; what others would refuse of the name is left out. Raises CertificateRefused when
    it does not fit a handshake message."""
    payload = codec.encode(Credential(link, chain, presentable(name)))
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CertificateRefused(f"a credential of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} fit a handshake")
    return payload


def pack_join_payload(link: Signed, name: str = "") -> bytes:
    """A joiner's handshake payload: it is nobody yet, and proves its key."""
    return pack_payload(link, (), name)


def presentable(name: str) -> str:
    """As much of a name as others take: printable, 64 characters."""
    return "".join(filter(str.isprintable, name))[:MAX_NAME]


def read_payload(
    payload: bytes, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId
) -> tuple[LinkCertificate, Chain, str]:
    """The link certificate of a payload, judged; its chain, not judged; and its name, printable.

    Raises CertificateRefused, whose message says what does not fit: signature, key, mesh, time, myself, name.
    """
    try:
        credential = codec.decode(payload, Credential, limit=MAX_PAYLOAD_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"the credential cannot be read: {error}") from error
    link = _check_link(credential.link, remote_static, mesh_id, now, myself)
    check_name(credential.name)
    return link, credential.chain, credential.name


def check_payload(
    payload: bytes, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId, *, expected: NodeId | None = None
) -> Peer:
    """Judge a member's payload by its certificates alone, as a joiner does who knows no more of the mesh yet.

    `expected` is who was dialled, where that is known. Raises CertificateRefused, whose message says what does not
    fit: signature, key, mesh, time, myself, chain, role.
    """
    link, chain, name = read_payload(payload, remote_static, mesh_id, now, myself)
    node = NodeId(link.id)
    check_expected(node, expected)
    return member(node, name, chain, verify_chain(chain, node, mesh_id), now, link)


def check_expected(node: NodeId, expected: NodeId | None) -> None:
    """Raises CertificateRefused when somebody else was dialled."""
    if expected is not None and node != expected:
        raise CertificateRefused(f"node {node.short} answered where {expected.short} was expected")


def check_join_payload(payload: bytes, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId) -> Peer:
    """Judge a joiner's payload: who it is, without any role. Raises CertificateRefused as check_payload does."""
    link, chain, name = read_payload(payload, remote_static, mesh_id, now, myself)
    if chain:
        raise CertificateRefused("a joiner carries no membership")
    return Peer(NodeId(link.id), name, frozenset(), "", link.not_after, (), None)


def member(
    node: NodeId,
    name: str,
    chain: Chain,
    certificates: tuple[MembershipCertificate, ...],
    now: int,
    link: LinkCertificate | None = None,
) -> Peer:
    """The peer whose chain verify_chain has read. Raises CertificateRefused when it does not hold at `now`."""
    until = check_times(certificates, now)
    if link is not None:
        until = min(until, link.not_after)
    own = certificates[0]
    return Peer(node, name, frozenset(own.roles), own.owner, until, chain, own)


def check_chain(chain: Chain, node: NodeId, mesh_id: bytes, now: int) -> tuple[MembershipCertificate, int]:
    """The membership that `chain` gives `node`, and when the first of its certificates ends.

    Raises CertificateRefused.
    """
    certificates = verify_chain(chain, node, mesh_id)
    return certificates[0], check_times(certificates, now)


def verify_chain(chain: Chain, node: NodeId, mesh_id: bytes) -> tuple[MembershipCertificate, ...]:
    """What the certificates say, once all of them are signed by whom they should be: true for ever, so that it may be
    remembered. Whether they hold at a time is check_times. Raises CertificateRefused."""
    if not chain:
        raise CertificateRefused("no membership certificate")
    if len(chain) > MAX_CHAIN:
        raise CertificateRefused(f"a chain of {len(chain)} certificates is too long, at most {MAX_CHAIN} count")
    certificates = tuple(read_membership(signed) for signed in chain)
    if certificates[0].node != node:
        raise CertificateRefused("the membership certificate is another node's")
    issuers = [*certificates[1:], None]
    for signed, certificate, issuer in zip(chain, certificates, issuers, strict=True):
        _check_membership(signed, certificate, mesh_id)
        _check_issuer(certificate, issuer, mesh_id)
    return certificates


def check_times(certificates: tuple[MembershipCertificate, ...], now: int) -> int:
    """When the first of them ends. Raises CertificateRefused when one does not hold at `now`."""
    for certificate in certificates:
        _check_time("membership", certificate.not_before, certificate.not_after, now, MEMBERSHIP_LIFETIME_S)
    return min(certificate.not_after for certificate in certificates)


def _check_link(signed: Signed, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId) -> LinkCertificate:
    link = read_link(signed)
    if not verify(link.id, LINK_CONTEXT, signed.body, signed.signature):
        raise CertificateRefused("the link certificate's signature is wrong")
    if link.x25519 != remote_static:
        raise CertificateRefused("the link certificate is for another handshake key")
    if link.mesh != mesh_id:
        raise CertificateRefused("the link certificate is for another mesh")
    _check_time("link", link.not_before, link.not_after, now, LINK_LIFETIME_S)
    if link.id == myself:
        raise CertificateRefused("the other end is this node itself")
    return link


def _check_membership(signed: Signed, certificate: MembershipCertificate, mesh_id: bytes) -> None:
    if not verify(certificate.issuer, MEMBERSHIP_CONTEXT, signed.body, signed.signature):
        raise CertificateRefused("the membership certificate's signature is wrong")
    if certificate.mesh != mesh_id:
        raise CertificateRefused("the membership certificate is for another mesh")


def _check_issuer(certificate: MembershipCertificate, issuer: MembershipCertificate | None, mesh_id: bytes) -> None:
    """`issuer` is the next certificate of the chain, None after the last: then the root must have signed."""
    if issuer is None:
        if certificate.issuer != mesh_id:
            raise CertificateRefused("the chain does not end at the root of the mesh")
        return
    if certificate.issuer != issuer.node:
        raise CertificateRefused("the chain is broken: a certificate's issuer is not the next one's node")
    if Role.INVITE not in issuer.roles:
        raise CertificateRefused("the issuer lacks the role invite")
    # Only the root makes those who may invite: members' notices do not bar them.
    if Role.INVITE in certificate.roles:
        raise CertificateRefused("the role invite was given by a member, not by the root")
    # Without this a client that may invite could make itself a server under a second name.
    if not set(certificate.roles) <= set(issuer.roles):
        raise CertificateRefused("the issuer lacks a role that it gave")


def _check_time(what: str, not_before: int, not_after: int, now: int, lifetime_s: int) -> None:
    if now < not_before:
        raise CertificateRefused(f"the {what} certificate begins in {not_before - now} s: is a clock wrong?")
    if now > not_after:
        raise CertificateRefused(f"the {what} certificate ended {now - not_after} s ago")
    if not_after - not_before > lifetime_s + BACKDATING_S:
        raise CertificateRefused(f"the {what} certificate is made for too long")
