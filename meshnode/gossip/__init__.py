"""How what each node says of itself reaches every other: signed adverts, flooded, then compared in the background.

And whether neighbours live. Pure. Counterparts: mesh.gossiper, which performs the commands; identity, which lends
signing and judging. Not for deciding who can be reached (routing). protocol.md §5.
"""

from meshnode.gossip.events import (
    Changed,
    Cleared,
    Command,
    Convicted,
    Counted,
    Dead,
    Describe,
    Event,
    Forget,
    Heard,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reconsider,
    Reported,
    Send,
    Suspected,
    Tick,
    Trimmed,
    Verdict,
    Violation,
)
from meshnode.gossip.facts import Facts
from meshnode.gossip.machine import Gossip

__all__ = [
    "Changed",
    "Cleared",
    "Command",
    "Convicted",
    "Counted",
    "Dead",
    "Describe",
    "Event",
    "Facts",
    "Forget",
    "Gossip",
    "Heard",
    "Leave",
    "NeighbourDown",
    "NeighbourUp",
    "Received",
    "Reconsider",
    "Reported",
    "Send",
    "Suspected",
    "Tick",
    "Trimmed",
    "Verdict",
    "Violation",
]
