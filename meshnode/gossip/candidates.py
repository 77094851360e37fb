"""Over which addresses a peer is dialled: those that worked, those it tells of, the one its own link came from. Pure.

Addresses never decide who a peer is: the handshake does. Not for when to dial (dialling.py) nor for racing them (net).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from meshnode.gossip.crowd import MOST_READ
from meshnode.model.ids import NodeId

MOST_ADDRESSES = 8
"""Raced for one peer."""

MOST_WORKED = 2
"""Addresses kept of those that worked, the last one first: at home and on the road."""

MOST_PEERS = 1024
"""Peers whose addresses are kept; of more, the one linked longest ago is forgotten."""


_MOST_CHARACTERS = 128


@dataclass(slots=True)
class _Met:
    worked: tuple[str, ...] = ()
    host: str = ""


class Candidates:
    """What links have taught about where peers are. Iterates over peers, the one linked last first."""

    def __init__(self) -> None:
        self._met: dict[NodeId, _Met] = {}

    def linked(self, peer: NodeId, address: str | None, host: str) -> None:
        """A link to `peer` came about: dialled at `address`, or accepted from the IP address `host`."""
        met = self._met.pop(peer, None) or _Met()
        while len(self._met) >= MOST_PEERS:
            del self._met[next(iter(self._met))]
        self._met[peer] = met
        if address:
            met.worked = tuple(dict.fromkeys((address, *met.worked)))[:MOST_WORKED]
        if host:
            met.host = _unmapped(host)

    def forget(self, peer: NodeId) -> None:
        """Nothing of `peer` is kept."""
        self._met.pop(peer, None)

    def of(self, peer: NodeId, told: Sequence[str], *, near: bool, stale: bool = False) -> tuple[str, ...]:
        """At most 8 addresses to race for `peer`, the likeliest first.

        `told` are its own words; `near`: it is on this machine, so loopback leads to it; `stale`: the last try of all
        of them failed, so what once worked comes last.
        """
        met = self._met.get(peer) or _Met()
        seen = self._seen(met.host, told) if near or not is_loopback(met.host) else ()
        room = MOST_ADDRESSES - len(met.worked) - len(seen)
        likely = (*told[:room], *seen)
        return tuple(dict.fromkeys((*likely, *met.worked) if stale else (*met.worked, *likely)))

    def worked(self, peer: NodeId) -> tuple[str, ...]:
        """Addresses at which `peer` answered, the last one first."""
        met = self._met.get(peer)
        return met.worked if met is not None else ()

    def __iter__(self) -> Iterator[NodeId]:
        return reversed(self._met)

    @staticmethod
    def _seen(host: str, told: Sequence[str]) -> tuple[str, ...]:
        """Where the peer's own link came from, with the port it listens on; nothing for one that does not listen."""
        if not host or not told:
            return ()
        port = told[0].rpartition(":")[2]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}",)


@lru_cache(MOST_READ)
def is_loopback(address: str) -> bool:
    """Whether a host, or `host:port`, names this very machine; 0.0.0.0 and :: do when they are dialled."""
    host = address.rpartition(":")[0] if address.count(":") == 1 or "]" in address else address
    host = host.strip("[]").partition("%")[0]
    try:
        ip = ipaddress.ip_address(_unmapped(host))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return ip.is_loopback or ip.is_unspecified


def well_formed(address: str) -> bool:
    """Whether this is `host:port` of a sensible size."""
    host, _, port = address.rpartition(":")
    if not host or len(address) > _MOST_CHARACTERS or not (port.isascii() and port.isdecimal()):
        return False
    return 0 < int(port) <= 65_535


def _unmapped(host: str) -> str:
    """An IPv4 address that came as ::ffff:a.b.c.d in its own spelling."""
    return host[7:] if host.lower().startswith("::ffff:") and "." in host else host
