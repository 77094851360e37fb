"""This machine's interfaces for `doctor`: what each is (mesh.interfaces), and whether the multicast group is joined.

Joining makes the kernel say so on that wire (IGMP); nothing else is sent. Not for judging (reach.py).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from meshnode.cli.doctor.facts import Wire
from meshnode.errors import HandshakeFailed
from meshnode.mesh import addresses
from meshnode.mesh.interfaces import Interface, confined, interfaces
from meshnode.net.dial import split_address

GROUP = "224.0.0.251"
"""Multicast DNS, RFC 6762 §3."""

ANSWER_S = 0.5
"""Loopback answers or refuses at once."""


def gather(chosen: Sequence[str], *, multicast: bool) -> tuple[list[Wire], str]:
    """Every interface that is up, and what a container or WSL means for this node ("" elsewhere)."""
    found = [one for one in interfaces() if one.kind not in ("down", "empty")]
    around = confined()
    return [_wire(one, chosen, multicast) for one in found], around.sentence if around is not None else ""


def _wire(one: Interface, chosen: Sequence[str], multicast: bool) -> Wire:
    hosts = tuple(str(address.ip) for address in one.addresses)
    unspoken = one.unspoken(chosen)
    first = next((str(address.ip) for address in one.addresses if address.version == 4), "")
    group = _join(first) if multicast and first and not unspoken else ""
    return Wire(one.name, one.kind, hosts, one.unadvertised, unspoken, group)


def _join(host: str) -> str:
    """Why the group cannot be joined at this address; "" when it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            request = socket.inet_aton(GROUP) + socket.inet_aton(host)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            return str(error.strerror or error)
    return ""


def told(listen: str, found: Sequence[Wire]) -> tuple[str, ...]:
    """What a node that listens there would advertise on these interfaces, by addresses.reachable's rules."""
    try:
        host, port = split_address(listen)
    except HandshakeFailed:
        return ()
    if not addresses.is_everywhere(host):
        return (addresses.join(host, port),)
    hosts = [host_ for wire in found if not wire.unadvertised for host_ in wire.hosts]
    return tuple(addresses.join(one, port) for one in hosts if host in ("", "::") or ":" not in one)[: addresses.MOST]


def answers(address: str) -> bool:
    """Whether anybody listens at an address of this machine."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection(("127.0.0.1" if host in ("", "0.0.0.0", "::") else host, int(port)), ANSWER_S):  # noqa: S104
            return True
    except OSError:
        return False
