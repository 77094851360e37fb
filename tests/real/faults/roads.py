"""The links of a mesh on one machine, made so that they can be cut: a TCP relay for each node that dials each other.

Needs no rights. Silence is a relay that carries nothing either way and keeps what it was given, as TCP does until the
path is back; closing ends its connections and takes no new ones. Not for namespaces (tests/real/lab.py).
"""

from __future__ import annotations

import contextlib

import trio

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Road:
    """From one dialling node to `to`, a port of 127.0.0.1. Dial `port` instead."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self._passable = trio.Event()
        self._passable.set()
        self._closed = False
        self._scopes: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled. Started once `port` is known."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._carry, listeners, task_status=task_status)

    def silence(self) -> None:
        """Carry nothing until `mend`."""
        if self._passable.is_set():
            self._passable = trio.Event()

    def close(self) -> None:
        """End every connection, and each new one at once, until `mend`."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    def mend(self) -> None:
        """As it was."""
        self._closed = False
        self._passable.set()

    async def _carry(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope, contextlib.suppress(*GONE):
            self._scopes.add(scope)
            try:
                async with near:
                    if not self._closed:
                        await self._passable.wait()
                        await self._join(near)
            finally:
                self._scopes.discard(scope)

    async def _join(self, near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.to) as far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
            nursery.start_soon(self._pump, far, near, nursery.cancel_scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """One direction. The end of either is the end of both: a link has no half."""
        with contextlib.suppress(*GONE):
            while data := await source.receive_some(65_536):
                await self._passable.wait()
                await sink.send_all(data)
        await self._passable.wait()
        both.cancel()
