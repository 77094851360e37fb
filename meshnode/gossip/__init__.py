"""How what each node says of itself reaches every other: signed adverts, flooded, then compared in the background.

Pure. Counterparts: mesh.gossiper, which performs the commands; identity, which lends signing and judging. Not for
deciding who can be reached (routing) nor whether a link is alive (net). protocol.md §5.
"""

from meshnode.gossip.events import (
    Changed,
    Command,
    Describe,
    Equivocation,
    Event,
    Forget,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reconsider,
    Send,
    Tick,
    Trimmed,
    Verdict,
    Violation,
)
from meshnode.gossip.machine import Gossip

__all__ = [
    "Changed",
    "Command",
    "Describe",
    "Equivocation",
    "Event",
    "Forget",
    "Gossip",
    "Leave",
    "NeighbourDown",
    "NeighbourUp",
    "Received",
    "Reconsider",
    "Send",
    "Tick",
    "Trimmed",
    "Verdict",
    "Violation",
]
