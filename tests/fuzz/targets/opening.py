"""What opens a tunnel: headers that are read are what some node wrote, and the way that comes back goes on from it."""

from __future__ import annotations

from meshnode.errors import DecodeError
from meshnode.mesh import opening
from meshnode.mesh.opening import Opening
from meshnode.model.ids import NodeId
from meshnode.routing.tree import MOST_HOPS
from tests.fuzz.kit import Draw, mutate

NODES = [NodeId(bytes([number]) * 32) for number in range(4)]
NAMES = ("meshnode-tunnel", "meshnode-origin", "meshnode-target", "meshnode-hops", "meshnode-path")
ODD = ("", "0", "-1", "+1", " 1", "1_0", "\u0661", "1" * 5000, "nan", ",,,,,,,,,,", "x" * 65)


def one_input(data: bytes) -> None:
    draw = Draw(data)
    sent = _opening(draw)
    headers = dict(sent.headers())
    for _ in range(draw.number(4)):
        name = NAMES[draw.number(len(NAMES))]
        value = mutate(headers.get(name, "").encode(), Draw(draw.some(8))).decode("utf-8", "replace")
        headers[name] = ODD[draw.number(len(ODD))] if draw.flag() else value
    try:
        found = opening.read(headers)
    except DecodeError:
        return
    assert found.path[0] == found.origin and found.hops_left >= 0
    assert len(found.path) + found.hops_left <= MOST_HOPS
    assert opening.read(dict(found.headers())) == found
    try:
        way = opening._seen_way(headers, sent)
    except DecodeError:
        return
    assert way[: len(sent.path)] == sent.path and way[-1] == sent.target and len(way) <= MOST_HOPS + 1


def _opening(draw: Draw) -> Opening:
    origin = NODES[draw.number(4)]
    path = (origin, *(NODES[draw.number(4)] for _ in range(draw.number(3))))
    return Opening(draw.some(8).hex() or "x", origin, NODES[draw.number(4)], draw.number(5), path)


def seeds() -> dict[str, bytes]:
    """At its origin, on its way, odd numbers, and a way that is another's."""
    return {
        "first-hop": b"\x00\x00\x02ab\x01\x04\x00",
        "second-hop": b"\x00\x01\x02\x02ab\x01\x03\x00",
        "odd-hops": b"\x00\x00\x02ab\x01\x04\x01\x03\x00\x01\x03",
        "changed-path": b"\x00\x01\x02\x02ab\x01\x03\x01\x04\x03\x00\x05\x02\x00",
        "far-end": b"\x01\x01\x02\x02ab\x02\x00\x00",
    }
