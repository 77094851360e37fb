"""A token bucket on a clock that is handed in. Not for admission of requests (slots)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Holds `burst` tokens at most and gains one each `refill_s` seconds. Starts full."""

    burst: int
    refill_s: float
    _tokens: float = 0.0
    _at: float = -math.inf

    def available(self, now: float) -> int:
        """How many tokens can be taken now."""
        self._fill(now)
        return int(self._tokens)

    def take(self, now: float, count: int = 1) -> bool:
        """Take `count` tokens if there are as many; else none."""
        self._fill(now)
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def ready_at(self, now: float) -> float:
        """When the next token can be taken: `now` or later."""
        self._fill(now)
        # A little late rather than a rounding error early, which would wake the caller for nothing.
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) * self.refill_s + 1e-6

    def _fill(self, now: float) -> None:
        if self.refill_s <= 0.0:
            self._tokens = float(self.burst)
        elif now > self._at:
            self._tokens = min(float(self.burst), self._tokens + (now - self._at) / self.refill_s)
        self._at = max(now, self._at)
