"""How many tunnels of others this node takes as their other end: handshakes under way, and virtual links that run.

Whose a tunnel is says its opening, which is the relays' word, until the handshake has shown it: so handshakes are
bounded by the neighbour that brings them, and virtual links by origin, once more when that is known. Not for tunnels
that pass (splice.py). Counterpart: tunnels.py. protocol.md §6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from meshnode.config.mesh import MeshSection
from meshnode.gossip.rates import Bucket
from meshnode.mesh.splice import SHARE
from meshnode.model.ids import NodeId
from meshnode.net import Link


class Threshold:
    """`served()` are the origins of the virtual links that run, one for each."""

    def __init__(self, me: NodeId, section: MeshSection, served: Callable[[], Sequence[NodeId]]) -> None:
        self._me = me
        self._section = section
        self._served = served
        self._half_open: Counter[NodeId] = Counter()
        # Handshakes by the neighbour that brings them; a whole mesh may come back at once.
        self._rates: WeakKeyDictionary[Link, Bucket] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Handshakes under way."""
        return self._half_open.total()

    def full(self, link: Link, origin: NodeId, now: float) -> str | None:
        """Why no handshake begins with one more that says it is `origin`, brought by the neighbour behind `link`."""
        most, neighbour = self._section.half_open, link.peer
        many = len(self) >= most
        # One neighbour that begins handshakes and ends none keeps nobody else out.
        many = many or self._half_open[neighbour] >= max(1, most // SHARE)
        rate = self._rates.setdefault(link, Bucket(most, 1 / self._section.handshakes_per_s))
        if many or not rate.take(now):
            return f"{self._me.short} has as many handshakes under way as it takes"
        return self.crowded(origin)

    def crowded(self, origin: NodeId) -> str | None:
        """Why `origin` gets no virtual link more."""
        served = self._served()
        if len(served) >= self._section.tunnels:
            return f"{self._me.short} has as many tunnels as it takes"
        if served.count(origin) >= self._section.tunnels_per_origin:
            return f"{self._me.short} has as many tunnels of {origin.short} as it takes"
        return None

    @contextmanager
    def under_way(self, neighbour: NodeId) -> Iterator[None]:
        """While a handshake that this neighbour brought lasts."""
        self._half_open[neighbour] += 1
        try:
            yield
        finally:
            self._half_open[neighbour] -= 1
            if not self._half_open[neighbour]:
                del self._half_open[neighbour]
