"""Whom this node believes: certificates, notices, pins and names put together, in the mode that was configured.

One place for handshakes and adverts alike. Pins narrow what certificates allow, they never widen it. Not for what the
other end may then do (its roles are in the Peer) nor for storing pins (keep). protocol.md §1.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

from meshnode.errors import CertificateRefused
from meshnode.identity.certificates import ALL_ROLES, Chain, MembershipCertificate, Role, pack_chain, unpack_chain
from meshnode.identity.credential import (
    Peer,
    check_expected,
    check_join_payload,
    member,
    read_payload,
    verify_chain,
)
from meshnode.identity.notices import Notices
from meshnode.identity.pins import Barred, Pins, PinTable, check_name
from meshnode.model.ids import NodeId

__all__ = ["Barred", "Pins", "Trust", "TrustMode"]

MAX_CACHED = 4096
"""Chains whose signatures were found right: those of all adverts of a mesh."""

TOFU_ROLES = ALL_ROLES - {Role.INVITE}

FOR_EVER = 2**40
"""The end of what has no certificate, in seconds as certificates count them."""


class TrustMode(enum.StrEnum):
    """Configuration `mesh.trust`. protocol.md §1."""

    CA = "ca"
    PINNED = "pinned"
    PSK_TOFU = "psk-tofu"


class _Verified(NamedTuple):
    chain: Chain
    certificates: tuple[MembershipCertificate, ...]


class Trust:
    """Judges others in one mesh. `pins` is another object whenever something in it has changed: store it then."""

    def __init__(self, mode: TrustMode, mesh_id: bytes, me: NodeId, pins: Pins, notices: Notices) -> None:
        self.mode = mode
        self._mesh_id = mesh_id
        self._me = me
        self._notices = notices
        self._table = PinTable(pins)
        self._verified: dict[tuple[NodeId, bytes], _Verified] = {}

    @property
    def pins(self) -> Pins:
        """What to store."""
        return self._table.pins

    def check_member(self, payload: bytes, remote_static: bytes, now: int, *, expected: NodeId | None = None) -> Peer:
        """Judge a member's handshake payload; in psk-tofu its name is pinned if nobody had it.

        `expected` is who was dialled, where that is known. Raises CertificateRefused, Barred.
        """
        link, chain, name = read_payload(payload, remote_static, self._mesh_id, now, self._me)
        node = NodeId(link.id)
        check_expected(node, expected)
        if self.mode is not TrustMode.PSK_TOFU:
            # Remembered with those of adverts: a handshake with a known member checks one signature instead of three.
            known = self._verify(node, pack_chain(chain))
            peer = member(node, name, known.chain, known.certificates, now, link)
            self._check_not_out(node, known.certificates)
            return dataclasses.replace(peer, static=remote_static)
        _check_no_chain(chain)
        self._check_not_out(node, ())
        self._table.add_name(node, name)
        return Peer(node, name, TOFU_ROLES, "", link.not_after, (), None, remote_static)

    def check_joiner(self, payload: bytes, remote_static: bytes, now: int) -> Peer:
        """Judge the payload of somebody who comes with an invite: who it is, without any role.

        Raises CertificateRefused, Barred: an invite lets nobody back in who was revoked.
        """
        if self.mode is TrustMode.PSK_TOFU:
            raise CertificateRefused("nobody joins a psk-tofu mesh by invite: copy its mesh.secret instead")
        peer = check_join_payload(payload, remote_static, self._mesh_id, now, self._me)
        self._check_not_revoked(peer.node, ())
        return peer

    def judge_advert(self, node: NodeId, name: str, chain: bytes, now: int) -> Peer:
        """Judge who an advert's chain says its node is. Signatures found right are remembered; times, notices and
        pins are judged at each call. Raises CertificateRefused, Barred."""
        check_name(name)
        if self.mode is TrustMode.PSK_TOFU:
            _check_no_chain(chain)
            self._check_not_out(node, ())
            self._table.check_name_of(node, name)
            return Peer(node, name, TOFU_ROLES, "", FOR_EVER, (), None)
        known = self._verify(node, chain)
        peer = member(node, name, known.chain, known.certificates, now)
        self._check_not_out(node, known.certificates)
        return peer

    def pin(self, node: NodeId, name: str = "") -> bool:
        """Pin an id and lift a local bar of it; with a name, in psk-tofu, keep the name to it. Returns whether
        something changed. Raises Barred for a name that is another key's, or when there is no room."""
        named = bool(name) and self.mode is TrustMode.PSK_TOFU and self._table.add_name(node, name)
        return self._table.pin(node) or named

    def bar(self, node: NodeId) -> bool:
        """Bar an id at this node alone. Returns whether something changed. Raises Barred when there is no room."""
        return self._table.bar(node)

    def forget(self, node: NodeId) -> bool:
        """Forget pins, names and bars of an id: in psk-tofu the next one under its name is the first again. Returns
        whether something changed."""
        return self._table.forget(node)

    def _verify(self, node: NodeId, packed: bytes) -> _Verified:
        known = self._verified.pop((node, packed), None)
        if known is None:
            chain = unpack_chain(packed)
            known = _Verified(chain, verify_chain(chain, node, self._mesh_id))
        # Put back last: the one not asked about for longest is first, and goes first.
        self._verified[node, packed] = known
        if len(self._verified) > MAX_CACHED:
            del self._verified[next(iter(self._verified))]
        return known

    def _check_not_out(self, node: NodeId, certificates: tuple[MembershipCertificate, ...]) -> None:
        self._check_not_revoked(node, certificates)
        if self.mode is TrustMode.PINNED and node != self._me and not self._table.pinned(node):
            raise Barred(f"node {node.short} is not pinned here: `meshnode peers trust` it, or add it to mesh.pinned")

    def _check_not_revoked(self, node: NodeId, certificates: tuple[MembershipCertificate, ...]) -> None:
        reason = self._notices.bars(certificates, node)
        if reason is not None:
            raise Barred(reason)
        if self._table.barred(node):
            raise Barred(f"node {node.short} is barred at this node: `meshnode peers forget` it to let it in")


def _check_no_chain(chain: Chain | bytes) -> None:
    if chain:
        raise CertificateRefused("a psk-tofu mesh knows no certificates: is mesh.trust the same on both machines?")
