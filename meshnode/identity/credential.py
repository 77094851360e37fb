"""The handshake payload: who I am, and why the mesh should believe it. Made by one side, judged by the other.

Judging needs no state: certificates, the handshake's remote static key, the mesh id and the time. Not for trust
beyond membership (revocation, pinning). Counterpart: certificates.py, which makes what is judged here.
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
from meshnode.model import codec
from meshnode.model.ids import NodeId

MAX_PAYLOAD_BYTES = 1952
"""What a handshake message of 2,048 bytes leaves for its payload (noise.handshake)."""


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A link certificate, and the chain that makes its node a member; the chain is empty for a joiner."""

    link: Signed
    # Longer chains are refused by name, not by the schema.
    chain: Annotated[tuple[Signed, ...], Meta(max_length=8)] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, checked. `until` is when the first of its certificates ends, wall-clock seconds."""

    node: NodeId
    membership: MembershipCertificate
    until: int


def pack_payload(link: Signed, chain: Chain) -> bytes:
    """A member's handshake payload. Raises CertificateRefused when it does not fit a handshake message."""
    payload = codec.encode(Credential(link, chain))
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CertificateRefused(f"a credential of {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} fit a handshake")
    return payload


def pack_join_payload(link: Signed) -> bytes:
    """A joiner's handshake payload: it is nobody yet, and proves its key."""
    return pack_payload(link, ())


def check_payload(
    payload: bytes, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId, *, expected: NodeId | None = None
) -> Peer:
    """Judge a member's payload. `expected` is who was dialled, where that is known.

    Raises CertificateRefused, whose message says what does not fit: signature, key, mesh, time, myself, chain, role.
    """
    credential = _read_credential(payload)
    link = _check_link(credential.link, remote_static, mesh_id, now, myself)
    node = NodeId(link.id)
    if expected is not None and node != expected:
        raise CertificateRefused(f"node {node.short} answered where {expected.short} was expected")
    membership, until = check_chain(credential.chain, node, mesh_id, now)
    return Peer(node, membership, min(until, link.not_after))


def check_join_payload(payload: bytes, remote_static: bytes, mesh_id: bytes, now: int, myself: NodeId) -> NodeId:
    """Judge a joiner's payload: its id. Raises CertificateRefused as check_payload does."""
    credential = _read_credential(payload)
    if credential.chain:
        raise CertificateRefused("a joiner carries no membership")
    return NodeId(_check_link(credential.link, remote_static, mesh_id, now, myself).id)


def check_chain(chain: Chain, node: NodeId, mesh_id: bytes, now: int) -> tuple[MembershipCertificate, int]:
    """The membership that `chain` gives `node`, and when the first of its certificates ends.

    Raises CertificateRefused.
    """
    if not chain:
        raise CertificateRefused("no membership certificate")
    if len(chain) > MAX_CHAIN:
        raise CertificateRefused(f"a chain of {len(chain)} certificates is too long, at most {MAX_CHAIN} count")
    certificates = [read_membership(signed) for signed in chain]
    if certificates[0].node != node:
        raise CertificateRefused("the membership certificate is another node's")
    issuers = [*certificates[1:], None]
    for signed, certificate, issuer in zip(chain, certificates, issuers, strict=True):
        _check_membership(signed, certificate, mesh_id, now)
        _check_issuer(certificate, issuer, mesh_id)
    return certificates[0], min(certificate.not_after for certificate in certificates)


def _read_credential(payload: bytes) -> Credential:
    try:
        return codec.decode(payload, Credential, limit=MAX_PAYLOAD_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"the credential cannot be read: {error}") from error


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


def _check_membership(signed: Signed, certificate: MembershipCertificate, mesh_id: bytes, now: int) -> None:
    if not verify(certificate.issuer, MEMBERSHIP_CONTEXT, signed.body, signed.signature):
        raise CertificateRefused("the membership certificate's signature is wrong")
    if certificate.mesh != mesh_id:
        raise CertificateRefused("the membership certificate is for another mesh")
    _check_time("membership", certificate.not_before, certificate.not_after, now, MEMBERSHIP_LIFETIME_S)


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
