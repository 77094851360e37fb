"""A job's headers between nodes: what is read is what some node wrote, and errors that cross links stay errors."""

from __future__ import annotations

from dataclasses import replace

from meshnode.dialects import from_wire
from meshnode.dispatch import wire
from meshnode.errors import DecodeError, RequestError
from meshnode.model.ids import NodeId
from meshnode.model.job import Label, Priority
from tests.fuzz.kit import Draw, mutate

NODES = [NodeId(bytes([number]) * 32) for number in range(4)]
NAMES = (
    "meshnode-job", "meshnode-attempt", "meshnode-origin", "meshnode-target", "meshnode-remaining-ms",
    "meshnode-hops", "meshnode-path", "meshnode-label", "meshnode-priority", "meshnode-owner", "meshnode-queue",
    ":path", "meshnode-claim",
)  # fmt: skip
ODD = ("", "0", "-1", "+1", " 1", "1_0", "\u0661", "1" + "0" * 400, "1" * 5000, "nan", "1.5", ",,,,,,,,,,")


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _error(draw)
        return
    headers = dict(wire.write(_envelope(draw), NODES[draw.number(4)]))
    for _ in range(draw.number(4)):
        name = NAMES[draw.number(len(NAMES))]
        value = mutate(headers.get(name, "").encode(), Draw(draw.some(8))).decode("utf-8", "replace")
        headers[name] = ODD[draw.number(len(ODD))] if draw.flag() else value
    try:
        found = wire.read(headers.items())
    except DecodeError:
        return
    assert found.path[0] == found.origin and len(found.path) + found.hops_left <= wire.MAX_HOPS
    assert 0 <= found.remaining_s <= wire.MAX_REMAINING_S
    sent = replace(found, path=found.path[:-1], hops_left=found.hops_left + 1)
    again = wire.read(wire.write(sent, found.path[-1]))
    # Milliseconds as a float may be written as one less.
    assert 0 <= found.remaining_s - again.remaining_s < 0.0015
    assert replace(again, remaining_s=found.remaining_s) == found


def _error(draw: Draw) -> None:
    """What a peer answers is an error of ours whatever it says."""
    status = draw.number(1000)
    names = ("meshnode-error", "meshnode-param", "retry-after", "x")
    headers = {names[draw.number(4)]: draw.some(12).decode("utf-8", "replace") for _ in range(draw.number(4))}
    if draw.flag():
        headers["meshnode-error"] = ("overloaded", "deadline_exceeded", "nonsense")[draw.number(3)]
    error = from_wire(status, headers, draw.rest())
    assert isinstance(error, RequestError) and 400 <= error.status <= 599
    assert error.retry_after_s is None or error.retry_after_s >= 0


def _envelope(draw: Draw) -> wire.Envelope:
    origin = NODES[draw.number(4)]
    path = (origin, *(NODES[draw.number(4)] for _ in range(draw.number(3)))) if draw.flag() else ()
    return wire.Envelope(
        id=draw.some(8).hex() or "x",
        route="/v1/chat/completions",
        origin=origin,
        target=NODES[draw.number(4)],
        attempt=1 + draw.number(4),
        remaining_s=draw.number(2**16) / 16,
        hops_left=1 + draw.number(5),
        path=path,
        label=list(Label)[draw.number(len(Label))],
        priority=list(Priority)[draw.number(len(Priority))],
        owner=draw.some(4).hex(),
        traceparent="",
        at_once=draw.flag(),
    )


def seeds() -> dict[str, bytes]:
    """A job at its origin, one on its way, odd numbers, and errors."""
    whole = b"\x00\x00\x02ab\x01\x00\x10\x00\x03\x01\x01\x02me"
    return {
        "first-hop": b"\x00" + whole + b"\x00\x00",
        "second-hop": b"\x00\x01\x01\x01\x02" + whole[2:] + b"\x02\x00",
        "odd-number": b"\x00" + whole + b"\x00\x01" + b"\x04\x00\x01\x07",
        "changed-path": b"\x00" + whole + b"\x00\x01" + b"\x06\x03\x00\x05\x02\x00",
        "overloaded": b"\x01\x01\xad\x01\x02\x03\x31\x2e\x35\x01\x00" + b'{"error":{"message":"full"}}',
        "unknown-error": b"\x01\x01\xf6\x00\x01\x02" + b"not json",
    }
