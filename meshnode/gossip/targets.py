"""One thing the overlay may dial: what it is, when it falls due, and how it waits after failing. Pure.

Not for choosing among them (dialling.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from meshnode.config.mesh import MeshSection
from meshnode.gossip.backoff import wait_s
from meshnode.model.ids import NodeId

Key = str | NodeId
"""A target's name: an address that was named or heard, or the node expected."""

DAY_S = 86_400.0
"""Peers that have gone silent are tried for so long (protocol.md §5: so a partition heals)."""

DEAD_MIN_S = 30.0
DEAD_MAX_S = 600.0

SOON = 6
"""Tries in the first minute or so after the link to a peer whose advert ended: most who say goodbye are back at once,
started anew by their people, and may have no way to anybody but being dialled."""

MOST_DEAD = 256
"""Silent peers tried; a whole side of a partition of several hundred nodes needs one of them."""


class Kind(Enum):
    """Where a target comes from. The value is the head start it gives away: seconds for which others go before it.

    No more than that, so that none waits for ever, however many go before it.
    """

    NAMED = 0.0
    """An address in the configuration."""
    KNOWN = 60.0
    """A node whose advert is alive."""
    HOPED = 60.001
    """A node remembered from an earlier run, not heard of yet."""
    DEAD = 60.002
    """A node whose advert has ended."""
    HINT = 120.0
    """An address heard by multicast."""


@dataclass(slots=True)
class Target:
    """`told`: the addresses given for it; `near`: it is on this machine; `order`: its advert's.

    `until`: when it is dropped, None for never; `once`: it is wanted for one dial.
    """

    kind: Kind
    told: tuple[str, ...]
    due: float
    failures: int = 0
    near: bool = False
    order: tuple[int, int] = (0, 0)
    until: float | None = None
    once: bool = False

    def wait(self, rng: random.Random, section: MeshSection, now: float) -> None:
        """Put off the next try: it has failed again."""
        self.failures += 1
        self.due = now + self._wait_s(rng, section)

    def lost(self, rng: random.Random, now: float) -> None:
        """Its advert has ended: it is tried more and more rarely, for a day. One that was linked just now goes on being
        tried soon."""
        self.kind = Kind.DEAD
        self.until = now + DAY_S
        if self.failures >= SOON:
            self.failures = SOON
            self.due = now + wait_s(rng, 1, DEAD_MIN_S, DEAD_MAX_S)

    def found(self, due: float) -> None:
        """There is news of it: what was tried before counts no more."""
        self.failures = 0
        self.due = min(self.due, due)

    def _wait_s(self, rng: random.Random, section: MeshSection) -> float:
        match self.kind:
            case Kind.DEAD if self.failures <= SOON:
                return wait_s(rng, self.failures, section.redial_min_s, DEAD_MIN_S)
            case Kind.DEAD:
                return wait_s(rng, self.failures - SOON, DEAD_MIN_S, DEAD_MAX_S)
            case Kind.HOPED:
                return wait_s(rng, self.failures, section.redial_min_s, DEAD_MAX_S)
            case _:
                return wait_s(rng, self.failures, section.redial_min_s, section.redial_max_s)
