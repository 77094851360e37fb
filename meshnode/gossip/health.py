"""How far this node should trust its own impression that others are silent.

Lifeguard's local health (Dadgar, Phillips, Currey 2018, §IV.A): whoever misses answers that others get, or is itself
suspected, or runs late, waits longer before it accuses. Not for the health of others (detector.py).
"""

from __future__ import annotations

WORST = 8
"""Lifeguard's S: at worst everything takes nine times as long."""


class LocalHealth:
    """A score from 0, well, to `WORST`."""

    __slots__ = ("score",)

    def __init__(self) -> None:
        self.score = 0

    def worse(self) -> None:
        """It missed what others got, missed several at once, was suspected, or ran late."""
        self.score = min(self.score + 1, WORST)

    def better(self) -> None:
        """A probe was answered in time."""
        self.score = max(self.score - 1, 0)

    @property
    def factor(self) -> int:
        """What time-outs are multiplied with."""
        return 1 + self.score
