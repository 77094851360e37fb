"""What a node says of itself by multicast DNS, and what it believes of what it hears: pure, so that it can be fuzzed.

Said is a hash of the mesh, a port and the interface's own addresses (protocol.md §4), nothing of the host. What is
heard is a hint that anybody on the wire may have made up: the handshake decides. Counterpart: multicast.py.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from meshnode.mesh.addresses import PER_INTERFACE, V4, is_everywhere, join
from meshnode.mesh.interfaces import Interface

TYPE = "_meshnode._tcp.local."

_CONTEXT = b"meshnode mdns\x00"
_VERSION = b"1"
_MOST_PROPERTIES = 16
_MOST_ADDRESSES = 16
_TAKEN = 2
"""Of one record: one address that works is enough, and each costs a dial."""


@dataclass(frozen=True, slots=True)
class Post:
    """One interface that multicast DNS is spoken on. `speaks_at` is its address to send from.

    `announced` are packed addresses where this node listens, none for one that only hears; `own` are all `host:port`
    by which it would hear itself; `networks` are what is on this link.
    """

    interface: str
    speaks_at: str
    announced: tuple[bytes, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    own: frozenset[str]


def posts(found: Sequence[Interface], chosen: Sequence[str], bound_host: str, port: int | None) -> tuple[Post, ...]:
    """Where to speak. A listener bound to one address is announced on that address's interface alone."""
    own = frozenset(join(str(a.ip), port) for interface in found for a in interface.addresses) if port else frozenset()
    spoken = []
    for interface in found:
        if interface.unspoken(chosen):
            continue
        open_at = [a.ip for a in interface.addresses if port and _listens(bound_host, str(a.ip), a.version)]
        networks = tuple(dict.fromkeys(address.network for address in interface.addresses))
        announced = tuple(address.packed for address in open_at[:PER_INTERFACE])
        spoken.append(Post(interface.name, str(interface.addresses[0].ip), announced, networks, own))
    return tuple(spoken)


def _listens(bound_host: str, host: str, version: int) -> bool:
    if is_everywhere(bound_host):
        return version == 4 or bound_host != V4
    return host == bound_host


def mesh_hash(mesh_id: bytes) -> bytes:
    """16 hexadecimal digits that tell members "ours" and others nothing."""
    return hashlib.sha256(_CONTEXT + mesh_id).hexdigest()[:16].encode()


def properties(mesh: bytes) -> dict[bytes, bytes]:
    """What is said in TXT of a node in the mesh with this hash."""
    return {b"v": _VERSION, b"m": mesh}


def is_other_mesh(said: Mapping[bytes, bytes | None], mesh: bytes) -> bool:
    """Whether this is a node's record, of another mesh than ours."""
    heard = said.get(b"m") if len(said) <= _MOST_PROPERTIES else None
    return heard is not None and len(heard) == len(mesh) and heard != mesh


def read_record(
    said: Mapping[bytes, bytes | None], addresses: Sequence[bytes], port: int | None, mesh: bytes, post: Post
) -> tuple[str, ...]:
    """Addresses of a node of our mesh to try, at most two, IPv4 first; none where anything is not as it should be.

    `addresses` are packed. Taken are only unicast ones on the link of the interface they were heard on, and not ours.
    """
    if len(said) > _MOST_PROPERTIES or said.get(b"v") != _VERSION or said.get(b"m") != mesh:
        return ()
    if port is None or not 0 < port < 65_536:
        return ()
    read = (_on_link(packed, post) for packed in addresses[:_MOST_ADDRESSES])
    hosts = sorted({host for host in read if host is not None}, key=lambda host: (":" in host, host))
    found = (join(host, port) for host in hosts)
    return tuple(address for address in found if address not in post.own)[:_TAKEN]


def _on_link(packed: bytes, post: Post) -> str | None:
    if len(packed) not in (4, 16):
        return None
    address = ipaddress.ip_address(packed)
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        return None
    for network in post.networks:
        if address.version == network.version and address in network:
            # The first address of a network and the last of an IPv4 one are everybody's (RFC 4291 §2.6.1, RFC 919).
            whole = network.prefixlen < network.max_prefixlen - 1
            ends = (network.network_address, network.broadcast_address if address.version == 4 else None)
            return None if whole and address in ends else str(address)
    return None
