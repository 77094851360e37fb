"""What is known of one neighbour's life, and by which clock it is probed: a LAN's or a WAN's.

Not for what to do about it (detector.py).
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from math import inf

from meshnode.config.gossip import GossipSection
from meshnode.model.ids import NodeId

_TRIPS = 8
"""Round trips remembered of a neighbour. The shortest counts: one stall does not make a LAN a WAN."""


class Phase(enum.Enum):
    QUIET = enum.auto()
    """Nothing is asked: it spoke when it was asked last."""
    ASKED = enum.auto()
    AROUND = enum.auto()
    """It did not answer in time: others try."""
    SUSPECTED = enum.auto()
    DEAD = enum.auto()


@dataclass(slots=True)
class Watch:
    """One neighbour. `at`: when the next thing is to be done; `asked_at`: when the probe left that began its phase;
    `vouched`: somebody else reaches it; `accusers`: who finds it silent too, of whom `witnesses` are linked to it;
    `favours`: who asked to try it, under which number."""

    node: NodeId
    at: float
    phase: Phase = Phase.QUIET
    asked_at: float = -inf
    number: int | None = None
    around: int = 0
    helpers: frozenset[NodeId] = frozenset()
    suspected_at: float = inf
    vouched: bool = False
    witnesses: frozenset[NodeId] = frozenset()
    accusers: set[NodeId] = field(default_factory=set)
    favours: dict[NodeId, int] = field(default_factory=dict)
    trips: deque[float] = field(default_factory=lambda: deque(maxlen=_TRIPS))

    @property
    def doubted(self) -> bool:
        """Whether nothing new should be sent over its link."""
        return self.phase in (Phase.SUSPECTED, Phase.DEAD)

    def period_s(self, section: GossipSection) -> float:
        """How often it is probed, where neighbours are few."""
        return section.wan_probe_s if self._far(section) else section.probe_s

    def timeout_s(self, section: GossipSection) -> float:
        """How long its answer may take before others are asked."""
        return section.wan_probe_timeout_s if self._far(section) else section.probe_timeout_s

    def _far(self, section: GossipSection) -> bool:
        return bool(self.trips) and min(self.trips) > section.wan_round_trip_s
