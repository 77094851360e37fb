"""Runs one child process in a process group of its own and leaves nothing of it behind.

Leaving is cancelling: `run` ends the group on its way out, whatever the reason. The child watches its standard input
(guard.py, embedded_child.py), which ends when this process does, so that kill -9 of the node ends the child too.
(PR_SET_PDEATHSIG would not do: trio starts processes from a worker thread, and that signal means the end of the
thread.) Not for starting again (supervisor.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import trio

from meshnode.errors import EngineUnavailable

TAIL_LINES = 40
"""Lines of standard error kept to say why a child ended."""

LINE_BYTES = 8192
"""Longest line kept; a child that writes none must not fill memory."""

SECOND_TERM_S = 0.5
"""llama-server with an open stream lingers 30 s after one SIGTERM and ends at once after a second (engines.md)."""

DRAIN_S = 0.5
"""After a child's end, for the rest of what it said to arrive."""

KILL_S = 2.0
"""From the second SIGTERM to SIGKILL."""


class ChildProcess:
    """One run of a command. `tail` is the last of its standard error, `pid` None before it started."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.pid: int | None = None
        self._environment = dict(environment) if environment is not None else None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def tail(self) -> str:
        """The last lines of standard error."""
        return "\n".join(self._tail)

    @property
    def last_words(self) -> str:
        """The last line of standard error that says anything, at most 300 characters."""
        return next((line.strip()[:300] for line in reversed(self._tail) if line.strip()), "")

    async def run(self, on_line: Callable[[bytes], None] | None = None) -> int:
        """Start it, hand each line of its standard output to `on_line`, and return its exit status.

        However this is left, by the child's end or by cancelling, the child's whole group is over afterwards (at most
        2.5 s, shielded). Raises EngineUnavailable when the command cannot be started.
        """
        # Shielded: a cancel between the fork and its return would leave a process that nobody owns.
        with trio.CancelScope(shield=True):
            process = await self._start()
        self.pid = process.pid
        try:
            async with trio.open_nursery() as nursery:
                drained = trio.Event()
                nursery.start_soon(self._keep_tail, process.stderr, drained)
                if process.stdout is not None:
                    nursery.start_soon(_lines, process.stdout, on_line or _ignore)
                await process.wait()
                # Bounded: something the child started may hold the pipe open for ever.
                with trio.move_on_after(DRAIN_S):
                    await drained.wait()
                nursery.cancel_scope.cancel()
        finally:
            await _end(process)
        return int(process.returncode or 0)

    async def _start(self) -> trio.Process:
        try:
            return await trio.lowlevel.open_process(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineUnavailable(f"{self.command[0]} cannot be started: {error}") from error

    async def _keep_tail(self, stream: trio.abc.ReceiveStream | None, drained: trio.Event) -> None:
        if stream is not None:
            await _lines(stream, lambda line: self._tail.append(line.decode("utf-8", "replace")))
        drained.set()


def _ignore(_line: bytes) -> None:
    pass


async def _lines(stream: trio.abc.ReceiveStream, on_line: Callable[[bytes], None]) -> None:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            on_line(line[:LINE_BYTES].rstrip(b"\r"))
        rest = rest[:LINE_BYTES]
    if rest:
        on_line(rest)


async def _end(process: trio.Process) -> None:
    """TERM, TERM again, KILL, to the whole group, and reap."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
            with trio.move_on_after(SECOND_TERM_S):
                await process.wait()
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
            with trio.move_on_after(KILL_S):
                await process.wait()
        # The leader may be gone and others of its group not.
        _signal(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        await process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                await pipe.aclose()


def _signal(pid: int, number: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
