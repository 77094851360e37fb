"""Invites as their maker sees them: made, kept in a book, burnt when they are used, and granted once.

Not for what a grant holds (identity.join) nor for the joiner's side (join.py, the counterpart).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from meshnode.errors import CertificateRefused, DecodeError, IdentityError, InviteRefused, SecretFileError
from meshnode.identity import InviteBook, JoinGrant, JoinRequest, Role, TrustMode, make_grant
from meshnode.identity.invites import MAX_LIFETIME_S
from meshnode.keep.home import Home
from meshnode.mesh.exchange import answer, read, refuse
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.model.owner import RULE, is_owner
from meshnode.net import Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")


@dataclass(frozen=True, slots=True)
class Wish:
    """What an invite is to give. `roles` None: all that the inviter can; `root`: the root of the mesh as well."""

    lifetime_s: int
    roles: tuple[str, ...] | None = None
    owner: str = ""
    root: bool = False


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite as it was made."""

    token: str
    expires_s: int
    roles: tuple[str, ...]
    owner: str
    root: bool


class Inviter:
    """This node's side of invites: makes them, keeps the book, and answers those who come with one."""

    def __init__(self, home: Home, papers: Papers, reachable: Callable[[], tuple[str, ...]]) -> None:
        self._home = home
        self._papers = papers
        self._reachable = reachable
        self.book: InviteBook = home.invites()

    def invite(self, wish: Wish) -> Invitation:
        """A new one-line invite. Raises CertificateRefused when this node may not give what is wished, InviteRefused
        when nobody could dial it or a role does not exist, SecretFileError."""
        roles = self._granted(wish)
        if not is_owner(wish.owner):
            raise InviteRefused(RULE)
        addresses = self._reachable()
        if not addresses:
            raise InviteRefused(
                "this node accepts no links (--mesh none), so nobody can reach it to join: invite from another node"
            )
        lifetime_s = max(1, min(wish.lifetime_s, MAX_LIFETIME_S))
        token, made = self.book.issue(
            int(time.time()),
            secrets.token_bytes(16),
            mesh=self._papers.mesh.id,
            signer=self._papers.key.id,
            addresses=addresses,
            lifetime_s=lifetime_s,
            roles=roles,
            owner=wish.owner,
            root=wish.root,
        )
        try:
            self._home.save_invites(self.book)
        except SecretFileError:
            # Nobody will ever show it, and it would take up a place for two days.
            self.book.withdraw(made.hint)
            raise
        return Invitation(token, lifetime_s, tuple(role.value for role in roles), wish.owner, wish.root)

    async def welcome(self, link: Link, stream: LinkStream) -> None:
        """Answer one join request on a joiner's link. Refusals are told in words, over the encrypted link."""
        hint = link.hint
        assert hint is not None
        try:
            # Whoever is here has the line, whatever it does next.
            self.book.got_through(hint, int(time.time()))
            self._home.save_invites(self.book)
            request = JoinRequest.unpack(await read(stream))
            grant = self._grant(request, link.peer, hint)
            await self._papers.keep()
        except (IdentityError, DecodeError) as error:
            logger.warning("a join was refused", joiner=link.peer.short, reason=str(error))
            await refuse(stream, str(error))
        else:
            await answer(stream, grant.pack())
            logger.info("joined", joiner=link.peer.short, name=request.name)

    def _granted(self, wish: Wish) -> tuple[Role, ...]:
        issuer = self._papers.issuer()
        if wish.root and self._papers.membership.root_seed is None:
            raise CertificateRefused("this node does not hold the root of the mesh, so it cannot hand it on")
        try:
            roles = issuer.grantable if wish.roles is None else frozenset(Role(role) for role in wish.roles)
        except ValueError as error:
            raise InviteRefused(f"{error}: there are {', '.join(sorted(Role))}") from error
        if not roles <= issuer.grantable:
            raise CertificateRefused(f"this node cannot give {', '.join(sorted(roles - issuer.grantable))}")
        return tuple(sorted(roles))

    def _grant(self, request: JoinRequest, joiner: NodeId, hint: bytes) -> JoinGrant:
        papers, now = self._papers, int(time.time())
        issuer = papers.issuer()
        # Burnt and kept before anything is granted: a crash in between costs an invite, never a second member.
        used = self.book.burn(hint, now, by=request.name)
        self._home.save_invites(self.book)
        grant = make_grant(
            issuer, papers.mesh, request, joiner, now=now, serial=secrets.randbits(63), invite=used,
            addresses=self._reachable(), root_seed=papers.membership.root_seed if used.root else None,
            notices=papers.notices.all(),
        )  # fmt: skip
        if papers.mode is TrustMode.PINNED:
            # Last: whoever gets no grant is not pinned either.
            papers.pin(joiner, request.name)
        return grant
