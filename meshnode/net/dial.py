"""Reach a peer: all its addresses raced, the first that authenticates wins.

Not for when to dial again nor whom (gossip.overlay). Counterpart: listen.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import HandshakeFailed
from meshnode.model.ids import NodeId
from meshnode.net import socket_stream
from meshnode.net.handshake import Authenticated, Check, initiate
from meshnode.noise import Initiator
from meshnode.observe import log

STAGGER_S = 0.1
"""Head start of each address over the next: on a LAN the first has answered by then, and nobody else is bothered."""

MAX_ADDRESSES = 8

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

logger = log.get("net")


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

    `initiator` makes a fresh handshake for each; `expect` refuses any other node. Raises HandshakeFailed, whose text
    says what happened at each address.
    """
    won: list[Authenticated] = []
    faults: list[str] = []

    async def attempt(address: str, delay_s: float) -> None:
        await trio.sleep(delay_s)
        try:
            stream = await _connect(address, connect, section.dial_timeout_s)
            found = await initiate(stream, initiator(), check, timeout_s=section.handshake_timeout_s, expect=expect)
        except HandshakeFailed as error:
            faults.append(f"{address}: {error}")
            return
        if won:
            await trio.aclose_forcefully(found.stream)
            return
        won.append(found)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, address in enumerate(addresses[:MAX_ADDRESSES]):
            nursery.start_soon(attempt, address, number * STAGGER_S)
    if not won:
        raise HandshakeFailed("; ".join(faults) or "no address to dial")
    return won[0]


async def _connect(address: str, connect: Connect, timeout_s: float) -> trio.abc.Stream:
    host, port = split_address(address)
    try:
        with trio.fail_after(timeout_s):
            # trio has set TCP_NOTSENT_LOWAT on it, which keeps the kernel's queue short.
            return await connect(host, port)
    except trio.TooSlowError as error:
        raise HandshakeFailed(f"no connection within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise HandshakeFailed(f"no connection: {error}") from error


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises HandshakeFailed."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise HandshakeFailed(f"not an address: {address!r:.80}")
    return host.removeprefix("[").removesuffix("]"), int(port)
