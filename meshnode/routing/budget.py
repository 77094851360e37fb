"""How much may be asked twice: retries and doubts, as shares of the last seconds' requests, and hedges, of all. Pure.

A mesh in trouble must not be asked three times for each request. requests.md §3. Counterpart: dispatch.pursuit.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from meshnode.config.dispatch import DispatchSection

BUCKETS = 10
"""A window is counted in so many pieces, the oldest of which is forgotten as a whole."""


LENT = 0.75
"""Of a budget of retries, the share that may be used before anything has failed."""


class RetryBudget:
    """At most `share` of the requests of the last `window_s` seconds may be retried, or `floor_per_s` each second."""

    def __init__(self, share: float, window_s: float, floor_per_s: float) -> None:
        self._share = share
        self._floor = floor_per_s * window_s
        self._bucket_s = max(window_s, 1e-3) / BUCKETS
        self._buckets: deque[list[int]] = deque()
        self._requests = 0
        self._retries = 0

    def request(self, now: float) -> None:
        """A request came."""
        self._bucket(now)[1] += 1
        self._requests += 1

    def spend(self, now: float) -> bool:
        """Whether one more retry may be made; if so it is counted."""
        bucket = self._bucket(now)
        if self._retries + 1 > max(self._floor, self._share * self._requests):
            return False
        bucket[2] += 1
        self._retries += 1
        return True

    def lend(self, now: float) -> int | None:
        """A retry that may be needed: counted as made until it is given back, which takes what this returns. None where
        more than `LENT` of the budget would be used. What nobody gives back is over with its window."""
        self._bucket(now)
        if self._retries + 1 > LENT * max(self._floor, self._share * self._requests):
            return None
        return self._buckets[-1][0] if self.spend(now) else None

    def give_back(self, lent: int) -> None:
        """It was not needed."""
        for bucket in self._buckets:
            if bucket[0] == lent and bucket[2]:
                bucket[2] -= 1
                self._retries -= 1

    def _bucket(self, now: float) -> list[int]:
        """The bucket of `now`: its number, requests, retries. Older ones than the window's are forgotten."""
        number = int(now / self._bucket_s)
        buckets = self._buckets
        while buckets and buckets[0][0] <= number - BUCKETS:
            _, requests, retries = buckets.popleft()
            self._requests -= requests
            self._retries -= retries
        if not buckets or buckets[-1][0] != number:
            buckets.append([number, 0, 0])
        return buckets[-1]


class HedgeBudget:
    """At most `share` of all requests are hedged. What was saved up in quiet times is bounded by `MOST_SAVED`."""

    MOST_SAVED = 2.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = 0.0

    def request(self) -> None:
        """A request came."""
        self._saved = min(self._saved + self._share, self.MOST_SAVED)

    def left(self) -> bool:
        """Whether one more request may be hedged."""
        return self._saved >= 1.0

    def spend(self) -> None:
        """One was."""
        self._saved -= 1.0


class Budgets(NamedTuple):
    """Those of a node. `doubts` are servers asked for a slot at once, while one seems free, besides those that say
    nothing: what fails meanwhile is not to use them up, and they cannot fill a mesh that is busy."""

    retries: RetryBudget
    hedges: HedgeBudget
    doubts: RetryBudget

    @classmethod
    def of(cls, section: DispatchSection) -> Budgets:
        """As the settings have them."""
        shares = section.retry_share, section.doubt_share
        retries, doubts = (RetryBudget(one, section.retry_window_s, section.retry_floor_per_s) for one in shares)
        return cls(retries, HedgeBudget(section.hedge_share), doubts)
