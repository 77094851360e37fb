"""Reach a peer: its addresses raced as RFC 8305 does, the first that authenticates wins.

Not for when to dial again nor whom (gossip.overlay). Counterpart: listen.py.
"""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import AlreadyLinked, HandshakeFailed, LinkRefused
from meshnode.model.ids import NodeId
from meshnode.net import socket_stream
from meshnode.net.handshake import Authenticated, Check, initiate
from meshnode.noise import Initiator

STAGGER_S = 0.25
"""Head start of each address over the next, unless it fails sooner (RFC 8305 §5, "Connection Attempt Delay"). On a LAN
the handshake is over by then, and nobody else is bothered."""

MAX_ADDRESSES = 8

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_REASONS = {
    errno.ECONNREFUSED: "refused: nothing listens on that port",
    errno.EHOSTUNREACH: "no machine answers there",
    errno.ENETUNREACH: "no route to it from this machine",
    errno.EADDRNOTAVAIL: "no route to it from this machine",
    errno.EAFNOSUPPORT: "this machine does not speak that kind of address",
    errno.EACCES: "forbidden by this machine's own firewall",
    errno.EPERM: "forbidden by this machine's own firewall",
    errno.ETIMEDOUT: "no answer",
}


async def dial(
    addresses: Sequence[str],
    initiator: Callable[[], Initiator],
    check: Check,
    section: MeshSection,
    *,
    expect: NodeId | None = None,
    connect: Connect = socket_stream.connect,
) -> Authenticated:
    """Connect and authenticate. `addresses` are `host:port`, the likeliest first; only the first 8 are tried.

    `initiator` makes a fresh handshake for each; `expect` refuses any other node. What is returned names the address
    that won. Raises HandshakeFailed, whose text says what happened at each address; LinkRefused if somebody there
    refused this node in words, AlreadyLinked where `check` does.
    """

    async def one(address: str) -> Authenticated:
        stream = await _connect(address, connect, section.dial_timeout_s)
        found = await initiate(stream, initiator(), check, timeout_s=section.handshake_timeout_s, expect=expect)
        return dataclasses.replace(found, address=address)

    race = _Race(race_order(addresses), one)
    await race.run()
    return race.outcome()


class _Race:
    """Addresses tried side by side with `one(address)`: who authenticated first, and what happened elsewhere."""

    def __init__(self, addresses: Sequence[str], one: Callable[[str], Awaitable[Authenticated]]) -> None:
        self._addresses = addresses
        self._one = one
        self._won: Authenticated | None = None
        self._linked: AlreadyLinked | None = None
        self._faults: dict[str, HandshakeFailed] = {}

    async def run(self) -> None:
        """Until one has won, or all have failed."""
        async with trio.open_nursery() as nursery:
            for address in self._addresses:
                failed = trio.Event()
                nursery.start_soon(self._attempt, address, failed, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()

    async def _attempt(self, address: str, failed: trio.Event, others: trio.CancelScope) -> None:
        try:
            found = await self._one(address)
        except AlreadyLinked as error:
            self._linked = self._linked or error
            others.cancel()
        except HandshakeFailed as error:
            self._faults[address] = error
            failed.set()
        else:
            if self._won is not None:
                await trio.aclose_forcefully(found.stream)
                return
            self._won = found
            others.cancel()

    def outcome(self) -> Authenticated:
        """The winner. Raises what `dial` does where there is none."""
        if self._won is not None:
            return self._won
        if self._linked is not None:
            raise self._linked
        refused = any(isinstance(fault, LinkRefused) for fault in self._faults.values())
        texts = [f"{address}: {self._faults[address]}" for address in self._addresses if address in self._faults]
        raise (LinkRefused if refused else HandshakeFailed)("; ".join(texts) or "no address to dial")


def race_order(addresses: Iterable[str]) -> list[str]:
    """Each address once, the first 8; the first stays, then the families take turns (RFC 8305 §4), so that one that is
    broken here costs one head start. Names, whose family is not known yet, count as a family of their own."""
    left: dict[int, deque[str]] = {}
    order: list[str] = []
    for address in list(dict.fromkeys(addresses))[:MAX_ADDRESSES]:
        left.setdefault(_family(address), deque()).append(address)
    turn = deque(left)
    while turn:
        family = turn.popleft()
        order.append(left[family].popleft())
        if left[family]:
            turn.append(family)
    return order


def _family(address: str) -> int:
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


async def _connect(address: str, connect: Connect, timeout_s: float) -> trio.abc.Stream:
    host, port = split_address(address)
    if not host or not port:
        raise HandshakeFailed(f"not an address to dial: {address!r:.80}")
    try:
        with trio.fail_after(timeout_s):
            # trio has set TCP_NOTSENT_LOWAT on it, which keeps the kernel's queue short.
            return await connect(host, port)
    except trio.TooSlowError as error:
        raise HandshakeFailed(f"no connection within {timeout_s:g} s: off, or behind a firewall") from error
    except (OSError, ValueError) as error:
        raise HandshakeFailed(f"no connection: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    """What people read; of a name with several addresses, of the last of them."""
    if isinstance(error.__cause__, ExceptionGroup):
        causes = [cause for cause in error.__cause__.exceptions if isinstance(cause, OSError)]
        error = causes[-1] if causes else error
    if isinstance(error, socket.gaierror):
        return "this name is not known here"
    return _REASONS.get(getattr(error, "errno", None) or 0) or str(error)


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises HandshakeFailed."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise HandshakeFailed(f"not an address: {address!r:.80}")
    return host.removeprefix("[").removesuffix("]"), int(port)
