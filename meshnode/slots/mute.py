"""Whether an engine says nothing on what it was asked for longer than that can take. Pure; requests.md §3.

The node in front of an engine knows best what it usually takes and what else it has in hand: a stream whose first token
is overdue is told of, and so is everybody else who waits for the same engine. Not for what follows from it, nor for
engines that fail (ailing.py). Counterpart: dispatch.ears, which looks in time.
"""

from __future__ import annotations

from math import inf


class Mute:
    """One engine. Keys are of requests that it was sent and has not begun to answer."""

    def __init__(self, factor: float, least_s: float) -> None:
        self._factor = factor
        self._least_s = least_s
        self._work_s: dict[int, float] = {}
        self._due: dict[int, float] = {}

    def asked(self, key: int, work_s: float | None, now: float, *, streams: bool) -> float:
        """It was sent a request that usually takes `work_s` until its first token, None where that is not known (a
        model that must be loaded, or was never measured). When to look; inf: this one says nothing of the engine.

        Engines that take one prompt after another first do what they have, the longest of which stands for all: those
        that take many at once do not add them up. Nothing is known behind what may take any time.
        """
        before_s = max(self._work_s.values(), default=0.0)
        self._work_s[key] = own_s = work_s if work_s is not None else inf
        due = now + max(self._least_s, self._factor * (before_s + own_s)) if streams else inf
        if due < inf:
            self._due[key] = due
        return due

    def said(self, key: int) -> None:
        """It begins to answer a request: whoever was sent before that one was overtaken, and no silence of the whole
        engine's."""
        for other in self._work_s:
            self._due.pop(other, None)
            if other == key:
                break
        self._work_s.pop(key, None)

    def left(self, key: int) -> None:
        """Nobody waits for that answer any more."""
        self._work_s.pop(key, None)
        self._due.pop(key, None)

    @property
    def due(self) -> float:
        """When to look next; inf for never."""
        return min(self._due.values(), default=inf)

    def look(self, now: float) -> bool:
        """Whether an answer is overdue that was not the last time."""
        over = [key for key, due in self._due.items() if due <= now]
        for key in over:
            del self._due[key]
        return bool(over)

    def __len__(self) -> int:
        return len(self._work_s)
