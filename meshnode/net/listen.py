"""Accept peers: bounded half-open connections, a rate per address, and not one byte for a stranger.

Not for what happens on a link (`on_member`, `on_join`, which build and run it). Counterpart: dial.py.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import ConfigError, HandshakeFailed, IdentityError, StartError
from meshnode.net.dial import split_address
from meshnode.net.handshake import Authenticated, Check, respond
from meshnode.net.socket_stream import adopt
from meshnode.net.turnstile import Turnstile
from meshnode.noise import Responder
from meshnode.observe import log

BACKLOG = 1024
"""Connections the kernel holds until they are accepted: a whole mesh may come back at once."""

PORT_TRIES = 16
"""A port that the kernel gave for IPv4 is rarely taken in IPv6."""

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a mesh of one machine is none

_ABSENT = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, socket.EAI_FAMILY, socket.EAI_NONAME}
"""What a machine says of a family of addresses that it does not have, or of one that is switched off."""

SAID_AGAIN_S = 600.0
"""The same refusal is logged as a warning again after so long."""

MOST_TOLD = 64

OnPeer = Callable[[Authenticated], Awaitable[object]]

logger = log.get("net")


@dataclass(frozen=True, slots=True)
class Welcome:
    """How those who knock are met. `responder` makes a fresh handshake for each connection.

    `check` judges members, `on_member` gets those who passed and carries their link (it returns when the link is
    over). `check_join` and `on_join` are the same for who comes with an invite; without them nobody joins here.
    """

    responder: Callable[[], Responder]
    check: Check
    on_member: OnPeer
    check_join: Check | None = None
    on_join: OnPeer | None = None


async def open_listeners(listen: str) -> list[trio.SocketListener]:
    """Listen on `host:port`, IPv4 first, all on one port, also where that is 0 (any).

    An empty host is every interface, IPv4 and IPv6; a family that this machine does not have is left out. Raises
    ConfigError, StartError with the address.
    """
    try:
        host, port = split_address(listen)
    except HandshakeFailed as error:
        raise ConfigError([f"mesh.listen: {error}"]) from error
    try:
        hosts = await _resolved(host) if host else _EVERYWHERE
        for _ in range(PORT_TRIES):
            listeners = await _listen_on(hosts, port)
            if listeners:
                return listeners
    except OSError as error:
        raise StartError(f"mesh.listen: cannot listen on {listen}: {error}", address=listen) from error
    raise StartError(f"mesh.listen: no port is free in both IPv4 and IPv6 for {listen}", address=listen)


async def _resolved(host: str) -> list[str]:
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE)
    by_family = sorted(found, key=lambda entry: entry[0] != trio.socket.AF_INET)
    return list(dict.fromkeys(_numeric(entry[4]) for entry in by_family))


def _numeric(where: Any) -> str:
    """The host of a socket address; a link-local one only means something with its interface."""
    host, _, *rest = where
    scope = rest[1] if len(rest) > 1 else 0
    return f"{host.partition('%')[0]}%{scope}" if scope else str(host)


async def _listen_on(hosts: Sequence[str], port: int) -> list[trio.SocketListener]:
    """One listener for each host, all on one port; none when `port` is 0 and the port found is taken elsewhere.

    Raises OSError.
    """
    listeners: list[trio.SocketListener] = []
    absent: OSError | None = None
    try:
        for host in hosts:
            chosen = listeners[0].socket.getsockname()[1] if listeners else port
            try:
                listeners += await trio.open_tcp_listeners(chosen, host=host, backlog=BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and listeners and not port:
                    _close(listeners)
                    return []
                if error.errno not in _ABSENT:
                    raise
                absent = error
    except BaseException:
        _close(listeners)
        raise
    if absent is not None and not listeners:
        raise absent
    return listeners


def _close(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


async def serve(
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    welcome: Welcome,
    section: MeshSection,
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept until cancelled; the listeners are closed then.

    Links accepted here live in `handler_nursery`, so that accepting can end before they do; without it, in this task.
    """
    handler = partial(_accept, welcome, section, Turnstile(section), _Told())
    await trio.serve_listeners(handler, list(listeners), handler_nursery=handler_nursery, task_status=task_status)


class _Told:
    """Which refusals were logged of late: somebody who dials all day is not news all day."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def is_news(self, reason: str, now: float) -> bool:
        """Whether to say this refusal aloud; remembered if so."""
        # Numbers change with each try ("ended 7 s ago").
        reason = "".join(character for character in reason if not character.isdigit())
        said_at = self._at.pop(reason, None)
        news = said_at is None or now - said_at >= SAID_AGAIN_S
        self._at[reason] = now if said_at is None or news else said_at
        if len(self._at) > MOST_TOLD:
            del self._at[next(iter(self._at))]
        return news


async def _accept(
    welcome: Welcome, section: MeshSection, turnstile: Turnstile, told: _Told, stream: trio.abc.Stream
) -> None:
    """One connection, from its first byte to the end of its link."""
    address = _address_of(stream)
    if isinstance(stream, trio.SocketStream):
        stream = adopt(stream)
    wait_s = turnstile.enter(address, trio.current_time())
    if wait_s is None:
        await trio.aclose_forcefully(stream)
        return
    try:
        try:
            await trio.sleep(wait_s)
            found = await respond(
                stream,
                welcome.responder(),
                welcome.check,
                check_join=welcome.check_join if welcome.on_join is not None else None,
                timeout_s=section.handshake_timeout_s,
            )
        finally:
            turnstile.leave(address)
        found = dataclasses.replace(found, remote_host=address)
        handler = welcome.on_member if found.hint is None else welcome.on_join
        assert handler is not None
        await handler(found)
    except HandshakeFailed as error:
        # Who knows the secret and is refused all the same is somebody's machine; strangers are the weather.
        known = isinstance(error.__cause__, IdentityError) and told.is_news(str(error), trio.current_time())
        (logger.warning if known else logger.debug)("a connection was refused", address=address, reason=str(error))
    except Exception as error:  # crash barrier: one connection's fault is not its neighbours'
        log.crash(logger, "an accepted connection crashed", error, address=address)
    finally:
        await trio.aclose_forcefully(stream)


def _address_of(stream: trio.abc.Stream) -> str:
    """The other end's IP address, with its interface where that counts; "" for a pipe that has none."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        name = stream.socket.getpeername()
    except OSError:
        # Gone already; its handshake will find out.
        return ""
    return _numeric(name) if isinstance(name, tuple) else ""
