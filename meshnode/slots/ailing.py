"""Whether an engine fails whatever it is asked, and how long it is then better left alone. Pure; requests.md §3.

Each node that asks has breakers of its own, which know only its own requests: an engine that fails would be tried by
each of them in turn. The node in front of it sees all its failures, and says so as a wait, which sends others away and
its own clients to peers while there are any; only who would not wait is refused, so that the last server is still
asked. An engine that says nothing (mute.py) is left alone likewise, before anything has failed. Counterparts:
dispatch.gate, which tells it what happens; routing.breaker, the same at who asks.
"""

from __future__ import annotations

FAILURES = 3
"""In a row, of requests of anybody: one may be the request's own fault, and two a coincidence."""

FIRST_S, MOST_S = 2.0, 30.0
"""How long it is left alone; twice as long each time that the first request after it fails too. What keeps an engine
running starts it again within seconds."""


class Ailing:
    """One engine. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._failures = 0
        self._rest_s = 0.0
        self._until = float("-inf")
        self._failed_at = float("-inf")
        self._mute = False

    def failed(self, now: float) -> None:
        """A request failed, before its first token or after."""
        self._failures += 1
        self._failed_at = now
        # Those that began before it was known say nothing new.
        if now >= self._until and self._failures >= FAILURES:
            self._rest(now)

    def mute(self, now: float) -> None:
        """It says nothing on what it was sent (slots.mute), which is no failure yet."""
        self._mute = True
        if now >= self._until:
            self._rest(now)

    def spoke(self) -> None:
        """It began to answer a request: it is mute no longer, and did not fail meanwhile or that counts."""
        if self._mute:
            self._mute = False
            if self._failures < FAILURES:
                self._rest_s, self._until = 0.0, float("-inf")

    def succeeded(self, began: float) -> None:
        """A request that was sent at `began` was answered; one sent before the last failure says nothing of now."""
        if self._failures and began >= self._failed_at:
            self._failures, self._rest_s, self._until = 0, 0.0, float("-inf")

    def _rest(self, now: float) -> None:
        self._rest_s = min(self._rest_s * 2, MOST_S) if self._rest_s else FIRST_S
        self._until = now + self._rest_s

    def wait_s(self, now: float) -> float:
        """What a newcomer had better wait, 0 while all is well."""
        return max(0.0, self._until - now)
