"""Where this machine can be reached, and a tag by which nodes of one machine know each other.

Bind addresses such as 0.0.0.0 are never advertised, nor those of container bridges, nor link-local ones: other
machines cannot reach them, or reach somebody else (complaints 4 and 6). Loopback is advertised only by a node that
listens there or has nothing else, and dialled only by nodes with the same tag. What an interface is: interfaces.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from meshnode.mesh.interfaces import Interface, interfaces

MOST = 16
"""Addresses told: as many as an advert holds."""

PER_INTERFACE = 4
"""Addresses told of one interface: a dial tries eight, and they should not all lead to the same wire."""

V4 = "0.0.0.0"  # noqa: S104 - compared with, never bound
"""Every interface, by IPv4."""

_BOTH = ("::", "")


def join(host: str, port: int) -> str:
    """The one spelling of an address: brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bound_host(hosts: Iterable[str]) -> str:
    """One host for the listeners of one port, as `reachable` takes it: "" for every interface, IPv4 and IPv6.

    The first, where they are bound to particular addresses.
    """
    all_hosts = tuple(hosts)
    return "" if {V4, "::"} <= set(all_hosts) else all_hosts[0]


def is_everywhere(bound_host: str) -> bool:
    """Whether a listener bound to this host listens on every interface."""
    return bound_host in (V4, *_BOTH)


def is_loopback_host(bound_host: str) -> bool:
    """Whether only this machine reaches a listener bound to this host."""
    return bound_host == "::1" or bound_host.startswith("127.")


def reachable(bound_host: str, port: int, found: Sequence[Interface] | None = None) -> tuple[str, ...]:
    """Addresses others may dial for a listener bound to `bound_host`, at most 16: LAN, then tunnels, then public ones.

    "" and "::" are every interface, 0.0.0.0 is every one by IPv4. `found` are this machine's interfaces, where they
    are known already; reading them may take milliseconds.
    """
    if not is_everywhere(bound_host):
        return (join(bound_host, port),)
    told = []
    for interface in found if found is not None else interfaces():
        if interface.unadvertised:
            continue
        hosts = [str(a.ip) for a in interface.addresses if a.version == 4 or bound_host in _BOTH]
        told += [join(host, port) for host in hosts[:PER_INTERFACE]]
    # On a machine without a network its own nodes still find each other; nobody else dials this (the tag differs).
    return tuple(dict.fromkeys(told))[:MOST] or (join("127.0.0.1", port),)


def own_name(configured: str) -> str:
    """What people read for this machine: what was configured, else the host's name."""
    return configured or socket.gethostname()


def host_tag(mesh_id: bytes) -> bytes:
    """Eight bytes equal for all nodes of one mesh on one machine and meaningless elsewhere.

    Made from what tells one running machine, or one network namespace of it, from another.
    """
    seed = [str(uuid.getnode()).encode()]
    for name in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            seed.append(Path(name).read_bytes().strip())
        except OSError:
            continue
    with contextlib.suppress(OSError):
        seed.append(str(Path("/proc/self/ns/net").stat().st_ino).encode())
    return hashlib.sha256(b"meshnode host\x00" + mesh_id + b"\x00".join(seed)).digest()[:8]
