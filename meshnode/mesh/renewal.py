"""Keeps this node's membership from ending: asks for a new certificate in time, gives others theirs, or passes on.

Any member that may invite can renew; the root's holder renews itself. Not for what may be given (identity.renewal).
Counterpart: the same class at the peer. protocol.md §1.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from random import Random

import msgspec
import trio

from meshnode.errors import CertificateRefused, DecodeError, LinkError, PeerFailed
from meshnode.identity import MEMBERSHIP_LIFETIME_S, Role, accept_renewal, ask_renewal, renew
from meshnode.identity.certificates import BACKDATING_S, Chain, pack_chain
from meshnode.mesh.exchange import answer, ask, read, refuse
from meshnode.mesh.papers import Papers
from meshnode.net import Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")

PATH = "/meshnode/renew"

RENEW_S = MEMBERSHIP_LIFETIME_S // 2
"""A membership with less left is renewed: two weeks are time enough to meet somebody who can."""

CHECK_S = 60.0
"""Between looks at the clock: a machine that slept wakes into another hour."""

RETRY_S = 600.0
"""After nobody could renew."""

ANSWER_S = 10.0
"""A renewal is a signature; longer means that nobody is there."""

AT_ONCE = 8
"""Renewals in hand for others: each is a few signatures, or a question to another node."""

_PASS_ON, _LAST = b"\x01", b"\x00"
"""First byte of a question: whether it may be passed on to somebody who can."""


class Renewal:
    """`run` keeps this node's own membership; `serve` answers others. `links()` are the live ones; `renewed()` is told
    when the chain changed."""

    def __init__(
        self, papers: Papers, links: Callable[[], Collection[Link]], renewed: Callable[[], None], rng: Random
    ) -> None:
        self._papers = papers
        self._links = links
        self._renewed = renewed
        self._rng = rng
        self._in_hand = 0
        self._met = trio.Event()

    async def run(self) -> None:
        """Renew when it is time. Returns only by cancellation."""
        while True:
            if not self.due():
                await trio.sleep(CHECK_S)
            else:
                met = self._met
                if not await self.renew():
                    with trio.move_on_after(RETRY_S * self._rng.uniform(0.5, 1.0)):
                        await met.wait()

    def linked(self) -> None:
        """There is somebody new to ask: at the start of a node, the first one at all."""
        met, self._met = self._met, trio.Event()
        met.set()

    def due(self) -> bool:
        """Whether it is time: and nobody renews a node that is out."""
        until = self._papers.until
        if until is None or self._papers.expelled is not None:
            return False
        # One that ends too late was made while a clock was ahead, and nobody else believes it yet.
        return not RENEW_S <= until - time.time() <= MEMBERSHIP_LIFETIME_S + BACKDATING_S

    async def renew(self) -> bool:
        """Get a new chain, from whoever can. Whether there is one now."""
        if self._papers.membership.root_seed is not None:
            return self._renew_myself()
        links = self._links_by_use()
        for link in links:
            if await self._ask(link):
                return True
        logger.info(
            "nobody linked could renew this node's membership; it will ask again",
            days_left=round(((self._papers.until or 0) - time.time()) / 86_400, 1),
            asked=len(links),
        )
        return False

    async def serve(self, link: Link, stream: LinkStream) -> None:
        """Answer one question of a peer. Raises LinkError when it goes away meanwhile."""
        if self._in_hand >= AT_ONCE:
            await refuse(stream, "it is busy with other renewals: ask again in a moment")
            return
        self._in_hand += 1
        try:
            # Whoever asks has gone by then.
            with trio.move_on_after(2 * ANSWER_S):
                await self._serve(link, stream)
        finally:
            self._in_hand -= 1

    async def _serve(self, link: Link, stream: LinkStream) -> None:
        try:
            chain = await self._chain(link, await read(stream))
        except (CertificateRefused, DecodeError) as error:
            logger.info("a renewal was refused", peer=link.peer.short, reason=str(error))
            await refuse(stream, str(error))
        else:
            await answer(stream, chain)

    def _renew_myself(self) -> bool:
        papers = self._papers
        own, now = papers.certificate, int(time.time())
        assert own is not None
        chain = papers.issuer().issue(papers.key.id, now, secrets.randbits(63), roles=own.roles, owner=own.owner)
        self._adopt(chain)
        return True

    async def _ask(self, link: Link) -> bool:
        papers, now = self._papers, int(time.time())
        question = _PASS_ON + ask_renewal(papers.key, papers.chain, now)
        try:
            data = await ask(link, PATH, question, timeout_s=2 * ANSWER_S)
            self._adopt(accept_renewal(data, papers.chain, papers.mesh.id, papers.key.id, int(time.time())))
        except (LinkError, PeerFailed, CertificateRefused, DecodeError) as error:
            logger.debug("a peer did not renew this node's membership", peer=link.peer.short, reason=str(error))
            return False
        return True

    def _adopt(self, chain: Chain) -> None:
        self._papers.adopt(msgspec.structs.replace(self._papers.membership, chain=chain))
        logger.info("membership renewed", until=self._papers.until)
        self._renewed()

    async def _chain(self, asker: Link, question: bytes) -> bytes:
        """A new chain for whoever signed the question, packed. Raises CertificateRefused."""
        request, papers = question[1:], self._papers
        try:
            chain = renew(request, papers.issuer(), papers.trust, int(time.time()), secrets.randbits(63))
        except CertificateRefused as error:
            passed = await self._pass_on(request, asker) if question[:1] == _PASS_ON else None
            if passed is None:
                raise CertificateRefused(str(error)) from error
            return passed
        return pack_chain(chain)

    async def _pass_on(self, request: bytes, asker: Link) -> bytes | None:
        """What another member that may invite says to the same request."""
        for link in self._links_by_use():
            if link is asker or not link.membership.may(Role.INVITE):
                continue
            try:
                return await ask(link, PATH, _LAST + request, timeout_s=ANSWER_S)
            except (PeerFailed, LinkError, DecodeError) as error:
                logger.debug("a renewal that was passed on failed", peer=link.peer.short, reason=str(error))
        return None

    def _links_by_use(self) -> list[Link]:
        """Those that may invite first; by lot among equals, so that no node renews a whole mesh."""
        links = list(self._links())
        self._rng.shuffle(links)
        return sorted(links, key=lambda link: not link.membership.may(Role.INVITE))
