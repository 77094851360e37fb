"""One accepted connection that can harm only itself: Hypercorn's TCPServer with a crash barrier and time limits.

One cancel scope spans the connection; its deadline is moved on, never re-made: header time while a head arrives, idle
time between requests, none while a request runs, write time while bytes wait for a client to read. Not for accepting
(server) nor for HTTP rules (protocol). Counterpart: the application, run by exchange.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from meshnode.config.front import FrontSection
from meshnode.front.exchange import Exchanges
from meshnode.front.protocol import PlainProtocol, ServerConfig, problem_bytes
from meshnode.net.socket_stream import SocketStream
from meshnode.observe import log

logger = log.get("front")

READ_BYTES = 65_536

WRITE_BYTES = 262_144
"""Written under one write time-out: a large answer to a slow but living client gets one for each piece."""

LINGER_S = 1.0
"""How long a refused client may go on sending before the socket closes: closing with unread bytes resets the
connection, and the reset may overtake the refusal (RFC 9112 §9.6)."""


class Connection(TCPServer):
    """One client, until it leaves, is idle for too long, breaks a rule or is cut."""

    def __init__(
        self,
        app: Any,
        config: ServerConfig,
        context: WorkerContext,
        limits: FrontSection,
        stream: trio.abc.HalfCloseableStream,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._wire = stream
        self._limits = limits
        self._http: PlainProtocol
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._resting_deadline = inf
        self._idle = True
        self._head_began = True
        self._broken = False
        self._lingers = False

    async def run(self) -> None:
        """Serve the client. Raises nothing but cancellation."""
        self._rest_until(self._limits.header_timeout_s)
        try:
            with self._scope:
                await self._serve()
            if self._scope.cancelled_caught and self._head_began and self._http.in_head and not self._broken:
                with trio.move_on_after(LINGER_S):
                    await self._wire.send_all(problem_bytes(408))
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, OSError):
            pass  # the client is gone
        except* Exception as group:  # crash barrier: one connection's fault is not its neighbours'
            log.crash(logger, "connection crashed", group)
        finally:
            await trio.aclose_forcefully(self._wire)

    @property
    def busy(self) -> bool:
        """Whether a request runs on it."""
        return not self._idle

    def drain(self) -> None:
        """Leave now if no request is running; a running one is the last of this connection."""
        if self._idle:
            self._reading.cancel()

    async def protocol_send(self, event: Event) -> None:
        """What the protocol wants done to the socket."""
        match event:
            case RawData(data=data):
                await self._write(data)
            case Updated(idle=True):
                self._idle, self._head_began = True, False
                self._rest_until(self._limits.idle_timeout_s)
            case Updated():
                self._idle = False
                self._rest_until(inf)
            case Closed():
                self._lingers = True
                self._reading.cancel()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            client, server = _addresses(self._wire)
            self._http = PlainProtocol(
                self.app,
                self.config,
                self.context,
                Exchanges(nursery),  # type: ignore[arg-type]
                ConnectionState({}),
                False,
                client,
                server,
                self.protocol_send,
            )
            self._http.body_limit_bytes = self._limits.body_limit_bytes
            await self._read_data()
        if self._lingers and not self._broken:
            await self._linger()

    async def _read_data(self) -> None:
        with self._reading, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._wire.receive_some(READ_BYTES):
                await self._http.handle(RawData(bytes(data)))
                if self._idle and not self._head_began and self._http.in_head:
                    self._head_began = True
                    self._rest_until(self._limits.header_timeout_s)
        # The client is gone or is to go: cancels the application if it has not finished.
        await self._http.handle(Closed())

    async def _write(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self.send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            # Until the write has ended: one that is cancelled leaves half a message, after which nothing may follow.
            self._broken = True
            for begin in range(0, len(data), WRITE_BYTES):
                self._scope.deadline = trio.current_time() + self._limits.write_timeout_s
                await self._wire.send_all(data[begin : begin + WRITE_BYTES] if len(data) > WRITE_BYTES else data)
            self._broken = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._reading.cancel()
        finally:
            self._scope.deadline = self._resting_deadline
            self.send_lock.release()

    def _rest_until(self, seconds: float) -> None:
        """The deadline that holds while nothing is being written."""
        self._resting_deadline = trio.current_time() + seconds
        if not self.send_lock.locked():
            self._scope.deadline = self._resting_deadline

    async def _linger(self) -> None:
        """Say that no more comes, and read on for a moment so that the last response is not reset away."""
        self._scope.deadline = trio.current_time() + LINGER_S
        await self._wire.send_eof()
        while await self._wire.receive_some(READ_BYTES):
            pass


def _addresses(stream: Any) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Client's and server's, for real sockets."""
    if not isinstance(stream, SocketStream):
        return None, None
    peer = stream.socket
    return parse_socket_addr(peer.family, peer.getpeername()), parse_socket_addr(peer.family, peer.getsockname())
