"""An answer sent on in batches, at most one each so many seconds: how long a token is, and when it came, tells what it
says. For what is sensitive; padding (net) hides what is left. protocol.md §6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from meshnode.errors import LinkError, RequestError
from meshnode.model.answer import Answer

EVERY_S = 0.020
"""Tokens of a quick engine come each few milliseconds; nobody who reads notices twenty."""

MOST_BYTES = 64 * 1024
"""Collected before the engine waits: a batch that is not sent must not grow without end."""


async def copy(answer: Answer, send: Callable[[bytes], Awaitable[None]], every_s: float = EVERY_S) -> None:
    """Send the whole of `answer`. Raises what it raises, after all that came before, and what `send` raises."""
    batch = _Batch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batch.fill, answer)
        try:
            while not batch.over or batch.chunks:
                await batch.changed.wait()
                await trio.sleep(every_s)
                if chunks := batch.take():
                    await send(b"".join(chunks))
        except LinkError as error:
            batch.error = error
            nursery.cancel_scope.cancel()
    if batch.error is not None:
        raise batch.error


class _Batch:
    """Chunks that wait to be sent together. `changed`: some came, or all have; `error`: what cut it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.over = False
        self.error: RequestError | LinkError | None = None
        self.changed = trio.Event()
        self._taken = trio.Event()
        self._size = 0

    async def fill(self, answer: Answer) -> None:
        """Collect until the answer ends."""
        try:
            async for data in answer:
                self.chunks.append(data)
                self._size += len(data)
                self.changed.set()
                if self._size >= MOST_BYTES:
                    await self._taken.wait()
        except RequestError as error:
            self.error = error
        self.over = True
        self.changed.set()

    def take(self) -> list[bytes]:
        """What has come."""
        chunks, self.chunks, self._size = self.chunks, [], 0
        if not self.over:
            self.changed = trio.Event()
        taken, self._taken = self._taken, trio.Event()
        taken.set()
        return chunks
