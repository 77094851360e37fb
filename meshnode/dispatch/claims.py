"""Makes and judges owner claims: what signs for requests that relays can read, and remembers which have counted.

Asked only for jobs that go open over relays in an owner's name; every other pays nothing. Not for what a claim says
(trust.claim) nor for what it gains (slots.owners). Counterpart: the other end's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from meshnode.dispatch.clerk import LARGE_BYTES
from meshnode.dispatch.wire import whole_ms
from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.observe import log
from meshnode.trust.claim import Claim, SignedClaim, Used

if TYPE_CHECKING:
    from meshnode.dispatch.wire import Envelope
    from meshnode.model.ids import NodeId
    from meshnode.trust.keys import Sign

logger = log.get("dispatch")


class Claims:
    """One node's. `owner` is its own as its certificate says, `vouched` that of another node; "" for nobody's."""

    def __init__(
        self,
        me: NodeId,
        sign: Sign,
        owner: Callable[[], str],
        vouched: Callable[[NodeId], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._me = me
        self._sign = sign
        self._owner = owner
        self._vouched = vouched
        self._wall = wall
        self._used = Used()
        self._since = int(wall())

    async def made(self, envelope: Envelope, body: bytes) -> str:
        """A claim to go with a job of this node's; "" where no certificate stands behind its owner."""
        if not envelope.owner or envelope.owner != self._owner():
            return ""
        try:
            return SignedClaim.sign(await self._of(envelope, body), self._sign).header
        except DecodeError as error:
            # Names that no codec takes, such as lone surrogates.
            logger.debug("a job goes without an owner claim", job=envelope.id, reason=str(error))
            return ""

    async def hold(self, envelope: Envelope, body: bytes) -> bool:
        """Whether the origin of a job that a relay brought stands for its owner. Each claim counts once."""
        if not envelope.claim or not envelope.owner or envelope.owner != self._vouched(envelope.origin):
            return False
        try:
            signed = SignedClaim.of_header(envelope.claim)
            expected = await self._of(envelope, body)
            signed.check(expected)
            self._check_since(signed.claim.at, expected.at)
        except (EvidenceRefused, DecodeError) as error:
            logger.info("an owner claim does not count", job=envelope.id, origin=envelope.origin.short,
                        reason=str(error))  # fmt: skip
            return False
        return self._used.first(expected, trio.current_time())

    def _check_since(self, made_at: int, now: int) -> None:
        """That it was made after this process began, which cannot know what has counted before. Raises
        EvidenceRefused."""
        # A clock that was ahead then, and was put right, is no reason to believe nobody until it is that late again.
        self._since = min(self._since, now)
        if made_at < self._since:
            raise EvidenceRefused(
                f"the owner claim was made {self._since - made_at} s before this node started, and may have counted"
            )

    async def _of(self, envelope: Envelope, body: bytes) -> Claim:
        """The claim that fits a job at its target, now."""
        if len(body) <= LARGE_BYTES:
            digest = hashlib.sha256(body).digest()
        else:
            digest = await trio.to_thread.run_sync(lambda: hashlib.sha256(body).digest())
        return Claim(
            owner=envelope.owner, job=envelope.id, attempt=envelope.attempt, route=envelope.route,
            origin=bytes(envelope.origin), server=bytes(envelope.target), body=digest, tier=int(envelope.priority),
            remaining_ms=whole_ms(envelope.remaining_s), at=int(self._wall()),
        )  # fmt: skip
