"""Renewing a membership over a link: the member asks with its own key, whoever may invite answers with a new chain.

A renewal changes nothing but the time: node, roles, owner and who let it in stay. A member renews those that the root
or itself let in; the root renews all. So a revoked inviter's people stay its people, whoever renewed them. Not for the
link (mesh.renewal).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import CertificateRefused, DecodeError
from meshnode.identity.certificates import (
    MAX_CHAIN,
    MAX_CHAIN_BYTES,
    Chain,
    Key,
    MembershipCertificate,
    Role,
    Signed,
    WallTime,
    pack_chain,
    read_membership,
    unpack_chain,
)
from meshnode.identity.credential import check_chain
from meshnode.identity.issuer import Issuer
from meshnode.identity.keys import SIGNATURE_BYTES, NodeKey, verify
from meshnode.identity.trust import Trust
from meshnode.model import codec
from meshnode.model.ids import NodeId

RENEWAL_CONTEXT = b"meshnode renewal 1\x00"

FRESH_S = 300
"""How old, or how far ahead, a request may be: as far as clocks may differ for certificates."""

MAX_REQUEST_BYTES = MAX_CHAIN_BYTES + 256


class RenewalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """`node` asks for its present `chain` anew, at `at` (wall-clock seconds)."""

    node: Key
    chain: Annotated[tuple[Signed, ...], Meta(max_length=MAX_CHAIN)]
    at: WallTime


class _SignedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    body: Annotated[bytes, Meta(max_length=MAX_REQUEST_BYTES)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


def ask_renewal(key: NodeKey, chain: Chain, now: int) -> bytes:
    """The member's request, to be sent as it is by whatever way."""
    body = codec.encode(RenewalRequest(key.public, chain, now))
    return codec.encode(_SignedRequest(body, key.sign(RENEWAL_CONTEXT, body)))


def renew(data: bytes, issuer: Issuer, trust: Trust, now: int, serial: int) -> Chain:
    """The issuer's answer: the same membership for longer.

    Raises CertificateRefused (Barred for who is out): not signed by the node itself, too old a request, a chain that
    does not hold now, roles that the issuer cannot give, another member's people, or nothing gained by it.
    """
    request = _read(data, now)
    node = NodeId(request.node)
    peer = trust.judge_advert(node, "", pack_chain(request.chain), now)
    own = peer.certificate
    if own is None:
        raise CertificateRefused("without certificates there is nothing to renew")
    _check_may(issuer, own)
    if issuer.ends(now) <= peer.until:
        raise CertificateRefused("the membership of the node asked ends no later: ask the holder of the root")
    # Who invited a node is the word of whoever signed: a member's would free those it let in of what it is itself.
    inviter = own.inviter if own.issuer in (issuer.mesh, issuer.id) else own.issuer
    return issuer.issue(node, now, serial, roles=own.roles, owner=own.owner, invited_by=inviter)


def accept_renewal(data: bytes, old: Chain, mesh_id: bytes, me: NodeId, now: int) -> Chain:
    """The member's check of the packed answer. Raises CertificateRefused: not a chain of this node in this mesh that
    holds now, other roles or another owner than before, or an earlier end."""
    chain = unpack_chain(data)
    certificate, until = check_chain(chain, me, mesh_id, now)
    before = read_membership(old[0])
    if set(certificate.roles) != set(before.roles) or certificate.owner != before.owner:
        raise CertificateRefused("the renewed membership has other roles, or another owner, than the one before")
    if until <= min(read_membership(signed).not_after for signed in old):
        raise CertificateRefused("the renewed membership ends no later than the one before")
    return chain


def _read(data: bytes, now: int) -> RenewalRequest:
    try:
        signed = codec.decode(data, _SignedRequest, limit=MAX_REQUEST_BYTES)
        request = codec.decode(signed.body, RenewalRequest, limit=MAX_REQUEST_BYTES)
    except DecodeError as error:
        raise CertificateRefused(f"the request to renew cannot be read: {error}") from error
    if not verify(request.node, RENEWAL_CONTEXT, signed.body, signed.signature):
        raise CertificateRefused("the request to renew is not signed by the node it is for")
    if abs(now - request.at) > FRESH_S:
        raise CertificateRefused(f"the request to renew is {now - request.at} s old: is a clock wrong?")
    return request


def _check_may(issuer: Issuer, own: MembershipCertificate) -> None:
    if issuer.is_root:
        return
    if Role.INVITE in own.roles:
        raise CertificateRefused("only the holder of the root renews those who may invite")
    if not set(own.roles) <= issuer.grantable:
        raise CertificateRefused("the node asked lacks some of these roles itself: ask the holder of the root")
    if own.inviter not in (issuer.mesh, issuer.id) or own.issuer not in (issuer.mesh, issuer.id):
        raise CertificateRefused(
            "only whoever invited or renewed it, or the holder of the root, renews this membership"
        )
