"""A server's load in one header: written into the trailers of its answers and into its refusals, read by the origin.

The same facts that ride on probes between neighbours (gossip.facts), here of the engine that was asked. A peer's word:
bounded, ignored where it makes no sense, and only ever a reason to expect more of a wait (routing). protocol.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshnode.gossip.facts import MOST, MOST_WAIT_MS, Facts, facts
from meshnode.slots import Load

HEADER = "meshnode-load"

MAX_CHARACTERS = 32
"""Four numbers of the largest size."""

_BOUNDS = (MOST, MOST, MOST, MOST_WAIT_MS)


def write(load: Load) -> str:
    """Free slots, requests that wait, requests under way, and what a newcomer would wait in milliseconds."""
    told = facts(load.free, load.queued, load.busy, load.expected_wait_s)
    return f"{told.free} {told.queued} {told.in_flight} {told.wait_ms}"


def read(headers: Mapping[str, str]) -> Facts | None:
    """What a peer's headers or trailers tell; None where they tell nothing that makes sense."""
    text = headers.get(HEADER, "")
    words = text.split(" ") if len(text) <= MAX_CHARACTERS else []
    if len(words) != len(_BOUNDS) or not all(word.isascii() and word.isdecimal() for word in words):
        return None
    numbers = [int(word) for word in words]
    if any(number > most for number, most in zip(numbers, _BOUNDS, strict=True)):
        return None
    return Facts(*numbers)


def of_node(loads: Iterable[Load]) -> Facts | None:
    """What a node with engines of these loads tells its neighbours; None where it has none. A newcomer goes to the one
    that is soonest free."""
    known = list(loads)
    if not known:
        return None
    wait_s = min(load.expected_wait_s for load in known)
    return facts(sum(x.free for x in known), sum(x.queued for x in known), sum(x.busy for x in known), wait_s)
