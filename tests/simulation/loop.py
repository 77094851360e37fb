"""Virtual time: a heap of calls. Not for what is called (world.py)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Loop:
    """Calls in the order of their times; those of one time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Call at `when`, in seconds of virtual time."""
        self._asked += 1
        heapq.heappush(self._heap, (when, self._asked, call, args))

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call `seconds` from now."""
        self.at(self.now + seconds, call, *args)

    def run(self, until: float) -> None:
        """Go on to `until`."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            when, _, call, args = pop(heap)
            if when > self.now:
                self.now = when
            self.events += 1
            call(*args)
        self.now = max(self.now, until)
