"""Multicast DNS records: at most two hints come of one, each an address on the very link it was heard on."""

from __future__ import annotations

import ipaddress

from meshnode.mesh.records import Post, mesh_hash, properties, read_record
from meshnode.net.dial import split_address
from tests.fuzz.kit import Draw, mutate

MESH = mesh_hash(b"m" * 32)
NETWORKS = (
    ipaddress.ip_network("192.168.1.0/24"),
    ipaddress.ip_network("10.0.0.0/31"),
    ipaddress.ip_network("fd00:1::/64"),
    ipaddress.ip_network("169.254.0.0/16"),
)
OWN = "192.168.1.7:6375"
POST = Post("eth0", "192.168.1.7", (b"\xc0\xa8\x01\x07",), NETWORKS, frozenset({OWN}))


def one_input(data: bytes) -> None:
    draw = Draw(data)
    said: dict[bytes, bytes | None] = dict(properties(MESH))
    for _ in range(draw.number(20)):
        name = (b"v", b"m", draw.some(6))[draw.number(3)]
        said[name] = (mutate(MESH, Draw(draw.some(6))), draw.some(12), None)[draw.number(3)]
    addresses = [_address(draw) for _ in range(draw.number(24))]
    port = (6375, None, draw.number(2**17) - 2**16)[draw.number(3)]
    found = read_record(said, addresses, port, MESH, POST)
    assert len(found) <= 2 and len(set(found)) == len(found)
    if found:
        assert said[b"m"] == MESH and said[b"v"] == b"1"
    for address in found:
        host, at = split_address(address)
        read = ipaddress.ip_address(host)
        assert at == port and 0 < at < 65_536 and address != OWN
        assert read.packed in addresses
        assert any(read in network for network in NETWORKS)
        assert not (read.is_multicast or read.is_loopback or read.is_unspecified or read.is_link_local)


def _address(draw: Draw) -> bytes:
    near = NETWORKS[draw.number(len(NETWORKS))].network_address.packed
    tail = draw.take(draw.number(3))
    return (near[: len(near) - len(tail)] + tail) if draw.number(4) else draw.some(20)


def seeds() -> dict[str, bytes]:
    """A record as a node says it, one of a liar, one that is too long."""
    return {
        "one": b"\x00\x01\x00\x01\x09\x01\x00",
        "both-families": b"\x00\x02\x00\x01\x09\x01\x02\x01\x22\x01\x00",
        "own": b"\x00\x01\x00\x01\x07\x01\x00",
        "other-mesh": b"\x01\x04\x00\x00\x10\x41\x00\x01\x01\x00\x01\x09\x01\x00",
        "many": b"\x13" + b"\x02\x01x\x01\x02ab" * 19 + b"\x17" + b"\x00\x01\x05\x01" * 23,
        "elsewhere": b"\x00\x03\x00\x00\x04\x7f\x00\x00\x01\x00\x00\x00\x04\xe0\x00\x00\xfb\x00\x00",
    }
