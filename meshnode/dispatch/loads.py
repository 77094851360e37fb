"""A request whose engine loads its model first: a client that leaves meanwhile does not undo the load.

Engines that load on request stop when the connection closes, and the next client would wait from the start. So the
engine is asked by a task of this node, which goes on until the first bytes or for a bounded time, and holds the
request's slot as long. Not for models that are loaded: there leaving frees the engine at once. requests.md §2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from meshnode.config.engine import EngineSection
from meshnode.dispatch.begun import Begun
from meshnode.errors import Draining, RequestError
from meshnode.observe import log

logger = log.get("dispatch")

Ask = Callable[[], Awaitable[Begun]]


class _Load:
    """One engine asked, for whoever still waits."""

    __slots__ = ("begun", "error", "left", "over", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.begun: Begun | None = None
        self.error: Exception | None = None
        self.left: Callable[[], None] | None = None


class Loads:
    """All of one node's. `run` for its life; without it, or beyond the most at once, leaving ends the load."""

    def __init__(self, section: EngineSection) -> None:
        self._section = section
        self._nursery: trio.Nursery | None = None
        self.kept = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the loads until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def begin(self, ask: Ask, keep: Callable[[], Callable[[], None]]) -> Begun:
        """What `ask` returns. Should the caller be cancelled first, `keep()` hands over what gives the slot back, and
        that is done when the load is over. Raises what `ask` raises."""
        if self._nursery is None:
            return await ask()
        load = _Load()
        self._nursery.start_soon(self._own, load, ask)
        try:
            await load.over.wait()
        except trio.Cancelled:
            if load.over.is_set() or self.kept >= self._section.kept_loads:
                await self._abort(load)
            else:
                self._keep(load, keep())
            raise
        if load.begun is not None:
            return load.begun
        # Without an error, the task of a request that is still waited for ends only with this node.
        raise load.error or Draining("this node is shutting down")

    def _keep(self, load: _Load, give_back: Callable[[], None]) -> None:
        self.kept += 1
        load.left = give_back
        load.scope.deadline = trio.current_time() + self._section.kept_load_s
        logger.info("the client left while a model loads: the load goes on")

    async def _abort(self, load: _Load) -> None:
        load.scope.cancel()
        with trio.CancelScope(shield=True):
            await load.over.wait()
            if load.begun is not None:
                await load.begun.answer.aclose()

    async def _own(self, load: _Load, ask: Ask) -> None:
        try:
            with load.scope:
                load.begun = await ask()
        except Exception as error:  # crash barrier: one request's fault, which whoever waits for it is told
            load.error = error.with_traceback(None)
            if load.left is not None and not isinstance(error, RequestError):
                log.crash(logger, "a load that nobody waits for crashed", error)
        finally:
            load.over.set()
            if load.left is not None:
                await self._end(load, load.left)

    async def _end(self, load: _Load, give_back: Callable[[], None]) -> None:
        """Nobody waits any more: the model is loaded, or is not to be."""
        self.kept -= 1
        try:
            if load.begun is not None:
                with trio.CancelScope(shield=True):
                    await load.begun.answer.aclose()
        finally:
            give_back()
