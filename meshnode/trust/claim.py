"""Owner claims: an origin's signature that this one request is its owner's, for servers which it reaches over relays
that can read, and could write, what they pass on. Pure.

A claim holds for one attempt of one job with these bytes at one server, in its tier and within its time, once and for
minutes. Whose the origin is says its certificate, not the claim. Not for requests whose origin is at the other end of
the link or the tunnel: that proves as much, and costs nothing. Counterpart: dispatch.claims, which makes and judges.
protocol.md §1 and §6.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.model import codec
from meshnode.model.ids import NodeId
from meshnode.trust.keys import Digest, Key, Sign, SignatureBytes, WallTime, verified

CLAIM_CONTEXT = b"meshnode owner claim 1\x00"

LIFETIME_S = 300
"""To either side of when it was made: what clocks of members may be apart (identity.certificates)."""

MOST_MS = 86_400_000
"""A day: the longest that any job is given between nodes."""

MAX_CLAIM_BYTES = 768
"""The longest names of ours make 640."""

MAX_CHARACTERS = 1200
"""Of a header with the largest claim and its signature."""

MOST_SEEN = 8192
"""Claims that have counted and could come again: 13 a second for ten minutes. More are served as their sender's."""


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Whose request this is, and which one: `body` is the SHA-256 of its bytes. `tier` as model.job.Priority counts,
    `remaining_ms` what the origin gives it, of which relays only take. `at` is the origin's wall clock."""

    owner: Annotated[str, Meta(min_length=1, max_length=64)]
    job: Annotated[str, Meta(min_length=1, max_length=128)]
    attempt: Annotated[int, Meta(ge=1, le=100)]
    route: Annotated[str, Meta(max_length=128)]
    origin: Key
    server: Key
    body: Digest
    tier: Annotated[int, Meta(ge=0, le=2)]
    remaining_ms: Annotated[int, Meta(ge=0, le=MOST_MS)]
    at: WallTime


class SignedClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A claim's bytes as signed, and its origin's signature."""

    body: Annotated[bytes, Meta(max_length=MAX_CLAIM_BYTES)]
    signature: SignatureBytes

    @classmethod
    def sign(cls, claim: Claim, sign: Sign) -> Self:
        """Signed with the key of `claim.origin`."""
        body = codec.encode(claim)
        return cls(body, sign(CLAIM_CONTEXT, body))

    @classmethod
    def of_header(cls, text: str) -> Self:
        """Read what `header` wrote, bounded. Raises DecodeError."""
        if len(text) > MAX_CHARACTERS:
            raise DecodeError("an owner claim that is too long")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DecodeError(f"an owner claim that is not base64: {error}") from error
        return codec.decode(data, cls, limit=MAX_CLAIM_BYTES + 80)

    @property
    def header(self) -> str:
        """As jobs carry it."""
        return base64.b64encode(codec.encode(self)).decode()

    @property
    def claim(self) -> Claim:
        """What it says, unverified. Raises DecodeError."""
        return codec.decode(self.body, Claim, limit=MAX_CLAIM_BYTES)

    def check(self, expected: Claim) -> None:
        """That `expected.origin` signed all of `expected`, or gave it more time, within LIFETIME_S of `expected.at`.
        Raises EvidenceRefused, DecodeError."""
        said = self.claim
        if (other := different(said, expected)) != "":
            raise EvidenceRefused(f"the owner claim is for another {other}")
        if expected.remaining_ms > said.remaining_ms:
            raise EvidenceRefused(
                f"the owner claim gives it {said.remaining_ms} ms, and it comes with {expected.remaining_ms} ms"
            )
        if abs(said.at - expected.at) > LIFETIME_S:
            raise EvidenceRefused(f"the owner claim was made {expected.at - said.at} s ago: is a clock wrong?")
        if not verified(expected.origin, CLAIM_CONTEXT + self.body, self.signature):
            raise EvidenceRefused(f"the owner claim is not signed by {NodeId(expected.origin).short}")


def different(said: Claim, expected: Claim) -> str:
    """Which of its parts a claim says otherwise than its server knows; "" where they agree."""
    names = ("owner", "job", "attempt", "route", "origin", "server", "body", "tier")
    return ", ".join(name for name in names if getattr(said, name) != getattr(expected, name))


class Used:
    """Claims that have counted, so that none does twice. Remembered for as long as one could be shown again; when
    that are too many, a new one does not count: nothing is forgotten early."""

    def __init__(self, most: int = MOST_SEEN) -> None:
        self._most = most
        self._until: dict[tuple[bytes, str, int], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def first(self, claim: Claim, now: float) -> bool:
        """Whether it counts now, for the first time; remembered if so. `now`: monotonic, never set back."""
        while self._until and next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]
        key = (claim.origin, claim.job, claim.attempt)
        if key in self._until or len(self._until) >= self._most:
            return False
        # One from ahead of this clock can be shown for twice as long.
        self._until[key] = now + 2 * LIFETIME_S + 1
        return True
