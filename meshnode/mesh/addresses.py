"""Where this machine can be reached, and a tag by which nodes of one machine know each other.

Bind addresses such as 0.0.0.0 are never advertised, nor those of container bridges, nor link-local ones: other
machines cannot reach them, or reach somebody else (complaints 4 and 6). Loopback is advertised only by a node that
listens there, and dialled only by nodes with the same tag.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import uuid
from pathlib import Path

import psutil

SKIPPED_INTERFACES = ("docker", "veth", "br-", "virbr", "lxc", "lxd", "cni", "flannel", "podman")
"""Bridges whose addresses mean another machine, or none, to a peer."""

_ANY = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, never bound


def join(host: str, port: int) -> str:
    """The one spelling of an address: brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(bound_host: str, port: int) -> tuple[str, ...]:
    """Addresses others may dial for a listener bound to `bound_host`, at most 16."""
    if bound_host not in _ANY:
        return (join(bound_host, port),)
    found = [join(host, port) for host in _interface_hosts(bound_host == "::")]
    return tuple(found[:15]) or (join("127.0.0.1", port),)


def _interface_hosts(with_v6: bool) -> list[str]:
    hosts: list[str] = []
    stats = psutil.net_if_stats()
    for interface, entries in psutil.net_if_addrs().items():
        if interface.startswith(SKIPPED_INTERFACES) or not (interface in stats and stats[interface].isup):
            continue
        for entry in entries:
            if entry.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            host = entry.address.partition("%")[0]
            address = ipaddress.ip_address(host)
            if address.is_loopback or address.is_link_local or address.is_multicast:
                continue
            if address.version == 4 or with_v6:
                hosts.append(host)
    return hosts


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
