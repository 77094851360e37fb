"""Keeps one engine process running: start, wait until it answers, notice its end, start again after a while.

A machine for what must happen in order, no more: what the process is and what it serves is handed in. Not for ending
processes (process.py) nor for choosing what to run (embedded.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.process import ChildProcess
from meshnode.errors import EngineFailed, EngineUnavailable
from meshnode.observe import log

logger = log.get("engine")

STEADY_S = 60.0
"""A child that served this long was well: its next crash starts the back-off anew."""

HOPELESS_STATUS = 3
"""A child ends with this when starting it again would not help: its software is missing or broken."""

ANSWER_POLL_S = 0.1
"""Between questions to a child that has said where it listens but does not answer yet."""

Ready = Callable[[bytes], Awaitable[None]]
"""Called with the child's first line; returns once the engine answers. Raises EngineFailed while it does not."""


class Supervisor:
    """One command, kept running. `restarts` counts ends that nobody asked for.

    `on_ready` is called with the first line of standard output until it succeeds, `on_down` with the reason in words
    when the child has ended.
    """

    def __init__(
        self, command: Sequence[str], section: EngineSection, on_ready: Ready, on_down: Callable[[str], None]
    ) -> None:
        self.restarts = 0
        self.pid: int | None = None
        self._command = list(command)
        self._section = section
        self._on_ready = on_ready
        self._on_down = on_down

    async def run(self) -> None:
        """Until cancelled; the child is over when this is left. Raises EngineUnavailable when it cannot be started."""
        pause_s = self._section.restart_min_s
        while True:
            started = trio.current_time()
            reason = await self._once()
            self.restarts += 1
            self._on_down(reason)
            if trio.current_time() - started > STEADY_S:
                pause_s = self._section.restart_min_s
            logger.warning("engine process ended", reason=reason, again_in_s=pause_s)
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._section.restart_max_s)

    async def _once(self) -> str:
        """One life of the child; why it ended."""
        child = ChildProcess(self._command)
        announced: list[bytes] = []
        heard = trio.Event()

        def on_line(line: bytes) -> None:
            if not heard.is_set():
                announced.append(line)
                heard.set()

        # An error raised inside a nursery would leave it as a group.
        failure: EngineUnavailable | None = None
        status, late = -1, False
        async with trio.open_nursery() as nursery:

            async def becoming_ready() -> None:
                nonlocal late
                with trio.move_on_after(self._section.start_timeout_s) as scope:
                    await heard.wait()
                    self.pid = child.pid
                    await self._answering(announced[0])
                if scope.cancelled_caught:
                    late = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(becoming_ready)
            try:
                status = await child.run(on_line)
            except EngineUnavailable as error:
                failure = error
            nursery.cancel_scope.cancel()
        self.pid = None
        if failure is not None:
            raise failure
        if status == HOPELESS_STATUS:
            raise EngineUnavailable(child.last_words or "the engine cannot run on this machine")
        if late:
            return f"not ready within {self._section.start_timeout_s:g} s"
        return f"exit status {status}" + (f": {child.last_words}" if child.last_words else "")

    async def _answering(self, line: bytes) -> None:
        while True:
            try:
                await self._on_ready(line)
            except EngineFailed:
                await trio.sleep(ANSWER_POLL_S)
            else:
                return
