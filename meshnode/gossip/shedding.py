"""Which links to close: too many that others chose, and the own choice that makes room for another. Pure.

Never one that is in use, that is young, or that its peer may need to be in the mesh at all. Not for when
(neighbourhood.py) nor for how (mesh.peers). protocol.md §5, overlay.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshnode.model.ids import NodeId

YOUNG_S = 30.0
"""A younger link is left alone: its peer may be about to find others."""

LONELY = 3
"""A peer with so few neighbours keeps them all."""

SHARE = 4
"""Of the links too many this part is closed at a time: those who lose one find another before the next lose theirs."""

DRAIN_S = 30.0
"""Streams that begin while a link is being closed have so long to end."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A link as far as closing it goes. `neighbours`: how many its peer tells of, None when its advert is not known;
    `dialable`: others can dial the peer; `crowded`: its network or its inviter has too many of the chosen."""

    peer: NodeId
    age_s: float
    neighbours: int | None
    streams: int = 0
    rtt_s: float | None = None
    dialable: bool = True
    crowded: int = 0

    @property
    def spare(self) -> bool:
        """Whether the link may be closed at all."""
        enough = self.neighbours is not None and self.neighbours > LONELY
        return enough and self.age_s >= YOUNG_S and not self.streams


def excess(others: Sequence[Standing], most: int) -> list[NodeId]:
    """Of links that this node did not choose, those to close now: newest first, and last those whose peers only dial
    out: nobody can make up for them."""
    count = -(-(len(others) - most) // SHARE)
    spare = sorted((one for one in others if one.spare), key=lambda one: (not one.dialable, one.age_s))
    return [one.peer for one in spare[: max(0, count)]]


def worst(chosen: Iterable[Standing], rng: random.Random) -> NodeId | None:
    """The own choice to give up: from a crowd first; else the farthest or, as often, any, so that links that span the
    mesh are not all lost to near ones."""
    spare = [one for one in chosen if one.spare]
    if not spare:
        return None
    by_lot = rng.random() < 0.5
    lots = {one.peer: rng.random() for one in spare}
    return max(spare, key=lambda one: (one.crowded, 0.0 if by_lot else one.rtt_s or 0.0, lots[one.peer])).peer
