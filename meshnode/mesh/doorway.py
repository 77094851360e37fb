"""One membership's handshakes: what this node shows, what it accepts, with keys that live a day at most in memory.

Makes the machines that net runs; judges by the node's papers as they are at that moment. Not for sockets (net) nor for
what follows a link (mesh, join).
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
    Notices,
    Peer,
    Pins,
    Signed,
    Trust,
    TrustMode,
    certify_link,
    pack_join_payload,
    pack_payload,
)
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.noise import Established, Initiator, Preface, Responder, Secrets, StaticKey, prologue

RENEW_S = LINK_LIFETIME_S / 2
"""The handshake key is made anew after this, well before its certificate ends."""


class _DayKey:
    """An X25519 key and the certificate that vouches for it, renewed by age."""

    def __init__(self, key: NodeKey, mesh: bytes) -> None:
        self._key = key
        self._mesh = mesh
        self._made_at = float("-inf")
        self.publics: tuple[bytes, ...] = ()
        self._static = StaticKey.generate()
        self._link: Signed | None = None

    def current(self) -> tuple[StaticKey, Signed]:
        if self._link is None or not 0 <= time.time() - self._made_at < RENEW_S:
            self._made_at = time.time()
            self._static = StaticKey.generate()
            # A link keeps for an hour what it began with.
            self.publics = (self._static.public, *self.publics[:1])
            self._link = certify_link(self._key, self._static.public, self._mesh, int(self._made_at))
        return self._static, self._link


class _Listening(Initiator):
    """A handshake that remembers whether the other end said anything."""

    heard = False

    def receive(self, data: bytes) -> Established | None:
        self.heard = True
        return super().receive(data)


class Attempt:
    """Fresh handshakes with one secret, for one round of dialling."""

    def __init__(self, make: Callable[[], _Listening]) -> None:
        self._make = make
        self._made: list[_Listening] = []

    def __call__(self) -> Initiator:
        machine = self._make()
        self._made.append(machine)
        return machine

    @property
    def unanswered(self) -> bool:
        """Whether somebody was connected to who said nothing: that is how a stranger's secret is met."""
        return any(not machine.heard for machine in self._made)


class Doorway:
    """A member's side of handshakes, dialling and accepting."""

    def __init__(self, papers: Papers, book: InviteBook) -> None:
        self._papers = papers
        self._prologue = prologue(papers.mesh.id)
        self._book = book
        self._day = _DayKey(papers.key, papers.mesh.id)

    @property
    def link_keys(self) -> tuple[bytes, ...]:
        """X25519 public keys that running links may have been made with, the present one first."""
        return self._day.publics

    def initiators(self) -> list[Attempt]:
        """What to dial with: the present network secret, then those it replaced, for members who were away."""

        def attempt(secrets: Secrets) -> Attempt:
            return Attempt(lambda: self._initiator(secrets, b""))

        return [attempt(secrets) for secrets in self._secrets()]

    def initiator(self, mixed: bytes = b"") -> Initiator:
        """A fresh handshake towards a member. `mixed` is what both sides must agree on besides (inside a link: which
        session it follows)."""
        return self._initiator(self._secrets()[0], mixed)

    def responder(self, mixed: bytes = b"") -> Responder:
        """A fresh handshake for whoever knocks: members, and (where nothing is mixed in) those whose invite is
        open."""
        static, payload = self._credential()
        return Responder(
            lambda preface: self._select(preface, inside=bool(mixed)),
            static,
            lambda _: payload,
            lambda _: self._prologue + mixed,
        )

    def check(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Peer]:
        """Judge a member's credential. Raises CertificateRefused."""
        return self._papers.check_member(payload, remote_static)

    def check_join(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Peer]:
        """Judge a joiner's credential. Raises CertificateRefused."""
        return self._papers.check_joiner(payload, remote_static)

    def _initiator(self, secrets: Secrets, mixed: bytes) -> _Listening:
        static, payload = self._credential()
        return _Listening(Preface(), secrets, static, payload, self._prologue + mixed)

    def _credential(self) -> tuple[StaticKey, bytes]:
        static, link = self._day.current()
        return static, pack_payload(link, self._papers.chain, self._papers.name)

    def _secrets(self) -> tuple[Secrets, ...]:
        return self._papers.mesh.secrets(int(time.time()))

    def _select(self, preface: Preface, *, inside: bool) -> Secrets | tuple[Secrets, ...] | None:
        if preface.hint is None:
            return self._secrets()
        if inside:
            return None
        try:
            return self._book.attempt(preface.hint, int(time.time()))
        except InviteRefused:
            # Whoever guesses learns nothing, not even that the hint was known.
            return None


class Knock:
    """A joiner's side of one handshake: keys from the invite, and the signer it names behind the door."""

    def __init__(self, key: NodeKey, invite: Invite, name: str) -> None:
        self._invite = invite
        self._name = name
        self._day = _DayKey(key, invite.mesh)
        # A joiner believes the invite, whatever its trust mode: it has nobody else's word yet.
        self._trust = Trust(TrustMode.CA, invite.mesh, key.id, Pins(), Notices(invite.mesh))

    def attempt(self) -> Attempt:
        """What to dial the invite's signer with, once."""
        return Attempt(self._initiator)

    def check(self, payload: bytes, remote_static: bytes) -> tuple[NodeId, Peer]:
        """Judge the signer's credential. Raises CertificateRefused."""
        signer = NodeId(self._invite.signer)
        peer = self._trust.check_member(payload, remote_static, int(time.time()), expected=signer)
        return peer.node, peer

    def _initiator(self) -> _Listening:
        static, link = self._day.current()
        payload = pack_join_payload(link, self._name)
        return _Listening(Preface(self._invite.hint), self._invite.psks(), static, payload, prologue(self._invite.mesh))
