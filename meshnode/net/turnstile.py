"""Who may begin a handshake, and when: so many half-open in all, and a rate per address, in turn. Pure.

Not for who passes it (handshake.py). Counterpart: listen.py.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from meshnode.config.mesh import MeshSection

MAX_ADDRESSES = 4096
"""Buckets kept. When there are more, the full ones go first: forgetting those forgives nothing."""


SHARE = 4
"""One address may have this part of the half-open places: its rate alone would fill all of them with handshakes that
never end."""

PATIENCE = 2
"""Nobody waits longer for a turn than the time of a handshake divided by this: whoever dials counts from connecting."""


class Turnstile:
    """`enter` before a handshake, `leave` after each that was let in, from the same address."""

    def __init__(self, section: MeshSection) -> None:
        self._half_open_most = section.half_open
        self._per_s = section.handshakes_per_s
        self._burst = section.handshake_burst
        self._longest_wait_s = section.handshake_timeout_s / PATIENCE
        self._most_of_one = max(1, section.half_open // SHARE)
        self._half_open: Counter[str] = Counter()
        # Address -> tokens left (less than none: promised to those who wait), and when that was so.
        self._buckets: dict[str, tuple[float, float]] = {}

    def enter(self, address: str, now: float) -> float | None:
        """After how many seconds the handshake of a connection from `address` may begin; None: it is refused. "" (no
        address) has no rate.

        Who waits holds a half-open place meanwhile, so that few can. A whole office behind one address may come at
        once, when its switch is back: taking turns costs it a second, a refusal its patience.
        """
        network = _network(address)
        if self._half_open.total() >= self._half_open_most:
            return None
        if network and self._half_open[network] >= self._most_of_one:
            return None
        wait_s = self._turn(network, now) if network else 0.0
        if wait_s is not None:
            self._half_open[network] += 1
        return wait_s

    def leave(self, address: str) -> None:
        """A handshake that was let in has ended, well or not."""
        network = _network(address)
        self._half_open[network] -= 1
        if not self._half_open[network]:
            del self._half_open[network]

    def _turn(self, network: str, now: float) -> float | None:
        """Take a token, if need be one that is still to come: in how many seconds."""
        left = self._tokens(network, now) - 1
        wait_s = max(0.0, -left / self._per_s)
        if wait_s > self._longest_wait_s:
            return None
        if network not in self._buckets and len(self._buckets) >= MAX_ADDRESSES:
            self._forget(now)
        self._buckets[network] = (left, now)
        return wait_s

    def _tokens(self, network: str, now: float) -> float:
        left, at = self._buckets.get(network, (float(self._burst), now))
        return min(self._burst, left + (now - at) * self._per_s)

    def _forget(self, now: float) -> None:
        full = [network for network in self._buckets if self._tokens(network, now) >= self._burst]
        # None is full: so many addresses at once are one attacker's; the oldest entry makes room.
        for network in full or [next(iter(self._buckets))]:
            del self._buckets[network]


def _network(address: str) -> str:
    """What one machine can have of addresses: an IPv4 address, an IPv6 /64."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
