"""Which server has a conversation's prompt in its cache, as far as this node has sent it there. Pure; requests.md §1.

Conversations are told apart by a hash of tenant, model and session, so no key, name or prompt is kept, and nothing of
it is gossiped. Bounded in number and age. Not for whether to keep to it (order.py).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from meshnode.config.routing import RoutingSection
from meshnode.model.ids import NodeId
from meshnode.model.job import Job

NONE = 0
"""The conversation of a request that has none."""

_WORD = (1 << 64) - 1
_ULP = 2.0**-53
_STIR = 0x9E3779B97F4A7C15
"""An odd constant whose products spread what differs into the high bits (Fibonacci hashing); both sides of the
exclusive or are even already, one a hash, the other a key."""


class Home(NamedTuple):
    """Where a conversation was answered last."""

    node: NodeId
    model: str


class _Kept(NamedTuple):
    home: Home
    until: float


class Affinity:
    """Homes by conversation; the one used longest ago goes first."""

    def __init__(self, section: RoutingSection) -> None:
        self._section = section
        self._kept: dict[int, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def home(self, conversation: int, now: float) -> Home | None:
        """Where it was answered last, unless that is long ago."""
        found = self._kept.get(conversation)
        return found.home if found is not None and now < found.until else None

    def settle(self, conversation: int, node: NodeId, model: str, now: float) -> None:
        """It is answered there now."""
        if conversation == NONE:
            return
        self._kept.pop(conversation, None)
        self._kept[conversation] = _Kept(Home(node, model), now + self._section.session_s)
        while len(self._kept) > self._section.sessions:
            del self._kept[next(iter(self._kept))]

    def begin(self, conversation: int, node: NodeId, model: str, now: float) -> None:
        """It was sent there: requests of one conversation that come before the first answer go the same way."""
        if self.home(conversation, now) is None:
            self.settle(conversation, node, model, now)

    def leave(self, conversation: int, node: NodeId) -> None:
        """It was not answered there after all."""
        found = self._kept.get(conversation)
        if found is not None and found.home.node == node:
            del self._kept[conversation]


def conversation_of(job: Job) -> int:
    """The conversation a job belongs to, 64 bits of hash; NONE where it belongs to none."""
    session = job.facts.session
    if not session:
        return NONE
    tenant, model = job.wishes.tenant, job.facts.model
    # With lengths, so that no two different triples read alike.
    told = f"{len(tenant)} {len(model)} {tenant}{model}{session}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") | 1


def lot(conversation: int, node_lot: int) -> float:
    """The conversation's own lot for a node, even in (0, 1]: every entry node draws the same one (rendezvous hashing,
    Thaler and Ravishankar 1998)."""
    return ((((conversation ^ node_lot) * _STIR & _WORD) >> 11) + 1) * _ULP
