"""A server's load in a header: whatever a peer writes is read within its bounds or not at all."""

from __future__ import annotations

from meshnode.dispatch import load
from meshnode.gossip.facts import MOST, MOST_WAIT_MS
from tests.fuzz.kit import Draw, mutate


def one_input(data: bytes) -> None:
    draw = Draw(data)
    text = mutate(b"12 3 4 5000", draw).decode("latin-1") if draw.number(2) else draw.rest().decode("utf-8", "replace")
    found = load.read({load.HEADER: text})
    if found is None:
        return
    assert max(found.free, found.queued, found.in_flight) <= MOST
    assert min(found.free, found.queued, found.in_flight, found.wait_ms) >= 0
    assert found.wait_ms <= MOST_WAIT_MS
    assert len(text) <= load.MAX_CHARACTERS


def seeds() -> dict[str, bytes]:
    """As a server writes it, larger than allowed, and digits that are not ours."""
    return {
        "plain": b"\x00" + b"4 0 0 0",
        "full": b"\x00" + b"0 8 4 12500",
        "large": b"\x00" + b"1000001 0 0 0",
        "arabic": b"\x00" + "١ 0 0 0".encode(),
        "mutated": b"\x01\x05\x10\xff",
    }
