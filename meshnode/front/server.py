"""The serve loop: accepts connections within their caps and, asked to stop, lets the answers in flight finish.

Not for what happens on a connection (guard). Counterpart: node.py, which opens the listeners and says when to stop.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

import trio
from hypercorn.trio.worker_context import WorkerContext

from meshnode.config.front import FrontSection
from meshnode.errors import ConfigError, HandshakeFailed, StartError
from meshnode.front.exchange import ASGIApp
from meshnode.front.guard import Connection
from meshnode.front.protocol import ServerConfig, problem_bytes
from meshnode.net.dial import split_address
from meshnode.net.socket_stream import adopt
from meshnode.observe import log

logger = log.get("front")

REFUSAL_S = 0.1
"""For telling a client too many: an empty socket buffer takes 300 bytes at once."""

ACCEPT_PAUSE_S = 0.1
"""Before accepting again when the system has no descriptor or memory left, as trio.serve_listeners waits."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


async def open_listeners(section: FrontSection, *, keyed: bool = False) -> list[trio.SocketListener]:
    """Listen on `section.api`, a `host:port`. Port 0 takes a free one. `keyed`: there are API keys.

    Raises StartError, and ConfigError for an address beyond loopback where nobody would need a key, or that was not
    opened on purpose.
    """
    try:
        host, port = split_address(section.api)
    except HandshakeFailed as error:
        raise ConfigError([f"front.api: {error}"]) from error
    try:
        listeners = await trio.open_tcp_listeners(port, host=host or None, backlog=section.backlog)
    except OSError as error:
        raise StartError(f"cannot listen on front.api {section.api}: {error}", address=section.api) from error
    faults = _too_open(section, keyed=keyed) if beyond_loopback(listeners) else []
    if not faults:
        return list(listeners)
    for listener in listeners:
        listener.socket.close()
    raise ConfigError(faults)


def beyond_loopback(listeners: Iterable[trio.SocketListener]) -> bool:
    """Whether other machines reach one of them."""
    bound = [str(listener.socket.getsockname()[0]) for listener in listeners]
    return not all(ip_address(address.partition("%")[0]).is_loopback for address in bound)


def _too_open(section: FrontSection, *, keyed: bool) -> list[str]:
    faults = []
    if not keyed and not section.require_key:
        faults.append(
            f"front.api {section.api} can be reached from other machines, and there are no API keys: whoever reaches "
            "it could use every model of the mesh. Make a key first: meshnode keys add --owner NAME"
        )
    if not section.open_to_network:
        faults.append(
            f"front.api {section.api} can be reached from other machines, and what passes between them, keys and "
            "prompts, is not encrypted: this version speaks no TLS. Tools on other machines should run a node of their "
            "own; if the network is trusted, or a proxy on this machine speaks TLS, set front.open_to_network = true"
        )
    return faults


async def serve(
    app: ASGIApp,
    listeners: list[trio.SocketListener],
    section: FrontSection,
    *,
    stop: trio.Event,
    rest: trio.Event | None = None,
    grace_s: float,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until cancelled, or until `stop` is set and then at most `grace_s` seconds more. Owns `listeners`.

    Until the answers under way and, where given, `rest` have ended, whoever asks is answered, on new connections too:
    that this node drains is not to be told from a node that does not run otherwise. Then all close.
    """
    door = Door(app, section)
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as acceptors:
                for listener in listeners:
                    acceptors.start_soon(door.accept, listener, connections)
                task_status.started()
                await stop.wait()
                connections.cancel_scope.deadline = trio.current_time() + grace_s
                await door.answered(rest)
                acceptors.cancel_scope.cancel()
        finally:
            for listener in listeners:
                listener.socket.close()
        door.close()


class Door:
    """The connections that are open, and how many each address has."""

    def __init__(self, app: ASGIApp, section: FrontSection) -> None:
        self._app = app
        self._section = section
        self._config = ServerConfig()
        self._context = WorkerContext(None)
        self._open: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._ended = trio.Event()

    async def accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        """Accept for ever; each connection becomes a task of `connections`."""
        while True:
            try:
                stream = await listener.accept()
                address = str(stream.socket.getpeername()[0])
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    logger.error("cannot accept", reason=error.strerror)
                    await trio.sleep(ACCEPT_PAUSE_S)
                continue
            section = self._section
            if len(self._open) >= section.connections or self._per_address[address] >= section.connections_per_address:
                await _turn_away(stream)
                continue
            self.admit(adopt(stream), address, connections)

    def admit(self, stream: trio.abc.HalfCloseableStream, address: str, connections: trio.Nursery) -> None:
        """Serve one stream as a task of `connections`."""
        connection = Connection(self._app, self._config, self._context, self._section, stream)
        self._open.add(connection)
        self._per_address[address] += 1
        connections.start_soon(self._run, connection, address)

    async def answered(self, rest: trio.Event | None = None) -> None:
        """Responses from now on are the last of their connections; wait until `rest` is set and none is under way."""
        await self._context.terminated.set()
        if rest is not None:
            await rest.wait()
        while any(connection.busy for connection in self._open):
            self._ended = trio.Event()
            await self._ended.wait()

    def close(self) -> None:
        """Close what is idle; what came meanwhile is the last of its connection."""
        for connection in list(self._open):
            connection.drain()

    async def _run(self, connection: Connection, address: str) -> None:
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
            self._ended.set()


async def _turn_away(stream: trio.SocketStream) -> None:
    with trio.move_on_after(REFUSAL_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(problem_bytes(503))
    await trio.aclose_forcefully(stream)
