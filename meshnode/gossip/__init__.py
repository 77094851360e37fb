"""How what each node says of itself reaches every other: signed adverts, flooded, then compared in the background.

Pure. Counterparts: mesh.gossiper, which performs the commands; identity, which lends signing and verifying. Not for
deciding who can be reached (routing) nor whether a link is alive (net). protocol.md §5.
"""

from meshnode.gossip.events import (
    Changed,
    Command,
    Describe,
    Equivocation,
    Event,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Send,
    Tick,
    Trimmed,
    Violation,
)
from meshnode.gossip.machine import Gossip

__all__ = [
    "Changed",
    "Command",
    "Describe",
    "Equivocation",
    "Event",
    "Gossip",
    "Leave",
    "NeighbourDown",
    "NeighbourUp",
    "Received",
    "Send",
    "Tick",
    "Trimmed",
    "Violation",
]
