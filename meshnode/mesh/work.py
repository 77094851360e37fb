"""What the rest of the node does for the mesh, handed in by node.py: the mesh room knows no engines and no jobs.

Counterpart: mesh.py, which calls these for the streams that peers open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from meshnode.gossip.facts import Facts
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream

Door = Callable[[Link, LinkStream], Awaitable[None]]


def _nothing_to_tell() -> Facts | None:
    return None


def _unheard(_node: NodeId, _facts: Facts) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Work:
    """What the rest of the node does for the mesh: `serve` takes its jobs, `facts()` is its load, None where it serves
    nothing, and `reported(node, facts)` hears that of a neighbour; `vouches` answers who asks for evidence."""

    serve: Door
    facts: Callable[[], Facts | None] = _nothing_to_tell
    reported: Callable[[NodeId, Facts], None] = _unheard
    vouches: Door | None = None
