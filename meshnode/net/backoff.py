"""How long to wait before dialling a peer again. Pure: randomness is handed in. Not for whom to dial (mesh)."""

from __future__ import annotations

import random

from meshnode.config.mesh import MeshSection


class Backoff:
    """Full jitter ("Exponential Backoff And Jitter", AWS 2015): uniform between the least wait and a doubling most.

    Nodes that lost the same switch at the same instant must not come back at the same instant.
    """

    __slots__ = ("_failures", "_max_s", "_min_s", "_rng")

    def __init__(self, section: MeshSection, rng: random.Random) -> None:
        self._min_s = section.redial_min_s
        self._max_s = section.redial_max_s
        self._rng = rng
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        # The exponent is bounded so that a peer that is gone for weeks does not overflow a float.
        most = min(self._max_s, self._min_s * 2.0 ** min(self._failures, 32))
        return self._rng.uniform(self._min_s, max(self._min_s, most))

    def succeeded(self) -> None:
        """The peer was reached: the next failure starts anew."""
        self._failures = 0
