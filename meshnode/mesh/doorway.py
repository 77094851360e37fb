"""One membership's handshakes: what this node shows, what it accepts, with keys that live a day at most in memory.

Makes the machines that net runs; judges by identity. Not for sockets (net) nor for what follows a link (mesh, join).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from meshnode.errors import InviteRefused
from meshnode.identity import (
    LINK_LIFETIME_S,
    Invite,
    InviteBook,
    NodeKey,
    certify_link,
    check_join_payload,
    check_payload,
    pack_join_payload,
    pack_payload,
)
from meshnode.identity.certificates import Chain, MembershipCertificate
from meshnode.identity.mesh import Mesh
from meshnode.model.ids import NodeId
from meshnode.noise import Initiator, Preface, Responder, Secrets, StaticKey, prologue

RENEW_S = LINK_LIFETIME_S / 2
"""The handshake key is made anew after this, well before its certificate ends."""


class _DayKey:
    """An X25519 key and the payload that vouches for it, renewed by age."""

    def __init__(self, pack: Callable[[StaticKey, int], bytes]) -> None:
        self._pack = pack
        self._made_at = float("-inf")
        self._static = StaticKey.generate()
        self._payload = b""

    def current(self) -> tuple[StaticKey, bytes]:
        if not 0 <= time.time() - self._made_at < RENEW_S:
            self._made_at = time.time()
            self._static = StaticKey.generate()
            self._payload = self._pack(self._static, int(self._made_at))
        return self._static, self._payload


class Doorway:
    """A member's side of handshakes, dialling and accepting."""

    def __init__(self, key: NodeKey, mesh: Mesh, chain: Chain, book: InviteBook, keep_book: Callable[[], None]) -> None:
        self._me = key.id
        self._mesh = mesh
        self._psks = mesh.psks()
        self._prologue = prologue(mesh.id)
        self._book = book
        self._keep_book = keep_book
        self._day = _DayKey(lambda static, now: pack_payload(certify_link(key, static.public, mesh.id, now), chain))

    def initiator(self) -> Initiator:
        """A fresh handshake towards a member."""
        static, payload = self._day.current()
        return Initiator(Preface(), self._psks, static, payload, self._prologue)

    def responder(self) -> Responder:
        """A fresh handshake for whoever knocks: members, and those whose invite is open."""
        static, payload = self._day.current()
        return Responder(self._select, static, lambda _: payload, lambda _: self._prologue)

    def check(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, MembershipCertificate]:
        """Judge a member's credential. Raises CertificateRefused."""
        peer = check_payload(payload, remote_static, self._mesh.id, int(time.time()), self._me)
        return peer.node, peer.membership

    def check_join(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, None]:
        """Judge a joiner's credential. Raises CertificateRefused."""
        return check_join_payload(payload, remote_static, self._mesh.id, int(time.time()), self._me), None

    def _select(self, preface: Preface) -> Secrets | None:
        if preface.hint is None:
            return self._psks
        try:
            psks = self._book.attempt(preface.hint, int(time.time()))
        except InviteRefused:
            # Whoever guesses learns nothing, not even that the hint was known.
            return None
        self._keep_book()
        return psks


class Knock:
    """A joiner's side of one handshake: keys from the invite, and the signer it names behind the door."""

    def __init__(self, key: NodeKey, invite: Invite) -> None:
        self._me = key.id
        self._invite = invite
        self._day = _DayKey(lambda static, now: pack_join_payload(certify_link(key, static.public, invite.mesh, now)))

    def initiator(self) -> Initiator:
        """A fresh handshake towards the invite's signer."""
        static, payload = self._day.current()
        return Initiator(Preface(self._invite.hint), self._invite.psks(), static, payload, prologue(self._invite.mesh))

    def check(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, MembershipCertificate]:
        """Judge the signer's credential. Raises CertificateRefused."""
        signer = NodeId(self._invite.signer)
        peer = check_payload(payload, remote_static, self._invite.mesh, int(time.time()), self._me, expected=signer)
        return peer.node, peer.membership
