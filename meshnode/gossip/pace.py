"""When changes of links are told to everybody: the first at once, further ones gathered for a growing, bounded time.

A node whose links change once says so as soon as ever. Where they go on changing, as when a cable between two halves
of a mesh is cut, each change would be an advert that travels over every link of the mesh. Whoever tries a link that is
gone is told so and goes another way meanwhile. Not for anything else that an advert says (own.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class Pace:
    """`first_s` passes after one telling before the next, and each time twice as long, up to `longest_s`; after twice
    `longest_s` without one it is `first_s` again."""

    first_s: float
    longest_s: float
    _told_at: float = -inf
    _gap_s: float = 0.0

    def ready_at(self, now: float) -> float:
        """When links that have changed now may be told."""
        return max(now, self._told_at + self._gap_s)

    def told(self, now: float) -> None:
        """They have just been told, for whatever reason."""
        calm = now - self._told_at >= 2 * self.longest_s
        self._gap_s = self.first_s if calm else min(2 * self._gap_s, self.longest_s)
        self._told_at = now
