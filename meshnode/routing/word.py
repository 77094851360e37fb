"""A server's word on its load, and whether it kept it. Pure; requests.md §1.

Its word only ever adds to what is expected of it: requests of others that it has. Who gave a slot at once and let the
request wait all the same, or refused one and called itself free, is expected to do so again, for longer each time.
Counterparts: measure.py, which hears and measures; score.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Protocol

TOLD_FADES_S = 20.0
"""What a server told counts less and less, and after this long no more: several times as old as neighbours let it
become, and about as long as what ran then runs."""

JUST_S = 0.05
"""A request that ends so soon after its server told its load is no longer in what was told: the word came with its
end."""

LATE_TIMES = 4.0
LATE_S = 2.0
"""A server that gave a slot at once and needs so many times its usual time to a first token, and so much longer, let
the request wait after all: more than another prompt and a busy engine explain."""

JUDGED_TOKENS = 1024
"""Of longer prompts nobody knows how much is cached, which may be all the difference."""

REFUSED_THOUGH_FREE_S = 10.0
"""What a server is expected to let one wait that refused a request and said with the same word that it has slots."""

DOUBT_S = 60.0
MOST_DOUBT_S = 600.0
"""How long a broken word counts; each one after it twice as long."""

_TYPICAL_STEP = 1.2
"""A median that follows: a step up for what is above it, a step down for what is below."""


class LoadFacts(Protocol):
    """What a server says of its own load; `meshnode.slots.Load` has this shape."""

    @property
    def free(self) -> int: ...

    @property
    def busy(self) -> int: ...

    @property
    def queued(self) -> int: ...

    @property
    def expected_wait_s(self) -> float: ...


@dataclass(slots=True, eq=False)
class Word:
    """Of one server for one model. `share` is how many requests it last had, over its slots; until `doubted_until` it
    is expected to let one wait for `broken_s`."""

    share: float = 0.0
    doubted_until: float = 0.0
    broken_s: float = 0.0
    _told_at: float = -inf
    _free: bool = False
    _own: int = 0
    _typical: float | None = None
    _doubt_s: float = 0.0

    def told(self, load: LoadFacts, own: int, now: float) -> None:
        """It told its load, while `own` requests of this node were there. A share is kept, since the load may be that
        of all its engines together."""
        self.share = (load.busy + load.queued) / max(1, load.busy + load.free)
        self._told_at, self._free, self._own = now, load.free > 0, own

    def ended(self, now: float) -> None:
        """A request of this node there ended."""
        if self._own and now - self._told_at < JUST_S:
            self._own -= 1

    def refused(self, now: float) -> None:
        """It refused a request as full."""
        if self._free and now - self._told_at < JUST_S:
            self._doubt(REFUSED_THOUGH_FREE_S, now)

    def first_token(self, waited_s: float, units: float, prompt_tokens: int, now: float) -> None:
        """A prompt of `units` for which it gave a slot at once got its first token."""
        if prompt_tokens > JUDGED_TOKENS:
            return
        if self._typical is None:
            self._typical = waited_s / units
            return
        expected_s = self._typical * units
        self._typical *= _TYPICAL_STEP if waited_s > expected_s else 1 / _TYPICAL_STEP
        if waited_s > LATE_TIMES * expected_s and waited_s - expected_s > LATE_S:
            self._doubt(waited_s - expected_s, now)

    def others(self, slots: int, now: float) -> float:
        """Requests of other nodes at the server, where it has so many slots."""
        left = 1.0 - (now - self._told_at) / TOLD_FADES_S
        return max(0.0, self.share * slots - self._own) * left if left > 0.0 else 0.0

    def _doubt(self, broken_s: float, now: float) -> None:
        if now >= self.doubted_until:
            self._doubt_s = min(max(DOUBT_S, 2 * self._doubt_s), MOST_DOUBT_S)
            self.broken_s = 0.0
        self.doubted_until = now + self._doubt_s
        self.broken_s = max(self.broken_s, broken_s)
