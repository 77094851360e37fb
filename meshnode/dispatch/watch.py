"""One watch over all answers in flight: one that is late or silent for too long is closed with an error that says so.

A timer per chunk would cost more than the chunk; one task looks at all once a second. Not for the time before the
first byte (dispatcher.py has a scope for that).
"""

from __future__ import annotations

from typing import Protocol

import trio

INTERVAL_S = 1.0


class Watched(Protocol):
    """An answer that knows when it last moved and how long it may take."""

    @property
    def late(self) -> bool: ...

    async def give_up(self) -> None: ...


class Watch:
    """Answers register when their first byte is here and leave when they end."""

    def __init__(self) -> None:
        self._answers: set[Watched] = set()

    def add(self, answer: Watched) -> None:
        self._answers.add(answer)

    def discard(self, answer: Watched) -> None:
        self._answers.discard(answer)

    def __len__(self) -> int:
        return len(self._answers)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once a second. Returns only by cancellation."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(INTERVAL_S)
                for answer in [answer for answer in self._answers if answer.late]:
                    self.discard(answer)
                    nursery.start_soon(answer.give_up)
