"""How long servers usually take to their first token, as a quantile of the last ones measured. Pure.

For hedging only, which asks how late is unusual; what to expect is measure.py's business. Counterpart: dispatch.
"""

from __future__ import annotations

from collections import deque

from meshnode.model.ids import NodeId
from meshnode.routing.measure import Flight

KEPT = 64
"""Samples of one server and model."""

FEWEST = 20
"""With fewer, a 95th percentile is the largest, which says nothing."""

SERVERS = 1024
"""Pairs of server and model; the least recently measured goes first."""


class Usual:
    """Times to the first token by server and model, each by unit of its prompt."""

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._samples: dict[tuple[NodeId, str], deque[float]] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, flight: Flight, now: float) -> None:
        """The first token of `flight` is here. An answer in one piece has no first token."""
        if flight.whole:
            return
        key = (flight.node, flight.model)
        samples = self._samples.pop(key, None)
        if samples is None:
            samples = deque(maxlen=KEPT)
            if len(self._samples) >= SERVERS:
                del self._samples[next(iter(self._samples))]
        self._samples[key] = samples
        samples.append((now - flight.started) / flight.units)

    def late_s(self, node: NodeId, model: str, units: float) -> float | None:
        """After how long an answer to a prompt of `units` is later than usual; None while too little was seen."""
        samples = self._samples.get((node, model))
        if samples is None or len(samples) < FEWEST:
            return None
        ordered = sorted(samples)
        return ordered[min(int(len(ordered) * self._quantile), len(ordered) - 1)] * units
