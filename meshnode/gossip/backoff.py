"""How long to wait before trying again, so that many who failed together do not try again together. Pure.

Full jitter (AWS Architecture Blog, "Exponential Backoff and Jitter") above a least wait. Not for deciding what is
tried (dialling.py).
"""

from __future__ import annotations

import random
from collections import deque

FLOOR_S = 0.05
"""No configuration makes a busy loop of trying again."""

STORM_S = 5.0
"""Links that end within this time ended together: a broken path is noticed by pings, which are this far apart."""

MOST_ENDS = 4096


def wait_s(rng: random.Random, failures: int, least_s: float, most_s: float) -> float:
    """Seconds to wait after so many failures: from `least_s` to a ceiling that doubles with each, up to `most_s`."""
    least_s = max(least_s, FLOOR_S)
    ceiling = min(most_s, least_s * 2.0 ** min(failures, 30))
    return rng.uniform(least_s, max(least_s, ceiling))


class Storm:
    """Counts links that end together, and spreads what follows over time: `per_s` a second, within `most_s`."""

    def __init__(self, per_s: int, least_s: float, most_s: float) -> None:
        self._per_s = per_s
        self._least_s = least_s
        self._most_s = most_s
        self._ends: deque[float] = deque(maxlen=MOST_ENDS)

    def ended(self, now: float) -> None:
        """One more link ended."""
        while self._ends and self._ends[0] < now - STORM_S:
            self._ends.popleft()
        self._ends.append(now)

    def delay_s(self, rng: random.Random, count: int | None = None) -> float:
        """Seconds until one of `count` (None: of those that ended of late) is dialled again."""
        count = len(self._ends) if count is None else count
        return rng.uniform(0.0, min(self._most_s, max(self._least_s, count / self._per_s)))
