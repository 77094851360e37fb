"""How many members one network may bring where nobody vouches for members (psk-tofu). Pure.

Whoever has the secret can make as many nodes as it likes, but not as many networks: the bound of a Sybil attack
(protocol.md §5). Not for the rate of handshakes (net.turnstile).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

MOST = 16
"""Members of one network with accepted links at once: a home has fewer machines."""

MOST_READ = 8192
"""Addresses whose reading is remembered: every advert brings them again, and reading one costs ten times a look-up."""

_PREFIX = {4: 24, 6: 64}


def crowded(hosts: Iterable[str], host: str) -> bool:
    """Whether `hosts`, where accepted links come from, hold as many of `host`'s network as may be. This machine's own
    nodes, and pipes that have no address, are not counted."""
    found = network(host)
    return found is not None and sum(network(other) == found for other in hosts) >= MOST


@lru_cache(MOST_READ)
def network(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The /24 or /64 of an IP address, None for this machine's own and for what is none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    # Its interface is part of a link-local address, not of a network.
    bare = ipaddress.ip_address(int(address)) if address.version == 4 else ipaddress.IPv6Address(int(address))
    return ipaddress.ip_network((int(bare), _PREFIX[bare.version]), strict=False)
