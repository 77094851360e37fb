"""Which peers this node asks so often that a link of their own is worth it, and until when. Pure.

Not for dialling them (dialling.py). protocol.md §5, overlay.
"""

from __future__ import annotations

from collections import deque

from meshnode.model.ids import NodeId

HOT_REQUESTS = 10
HOT_S = 30.0
"""So many requests within so long over relays: a handshake costs less than the relays' work."""

COLD_S = 600.0
"""A direct link without a request for so long is closed."""

MOST_HOT = 16
"""Such links at once; of more, the one used longest ago has to go."""

MOST_WARM = 256
"""Peers whose requests are counted; of more, the one asked longest ago is forgotten."""


class Heat:
    """Counts requests by peer. Iterates over nobody: ask `in`."""

    def __init__(self) -> None:
        self._warm: dict[NodeId, deque[float]] = {}
        self._hot: dict[NodeId, float] = {}

    def __contains__(self, peer: object) -> bool:
        return peer in self._hot

    def __len__(self) -> int:
        return len(self._hot)

    def requested(self, peer: NodeId, now: float, *, relayed: bool) -> bool:
        """One more request to `peer`; whether that made it hot."""
        if peer in self._hot:
            self.heat(peer, now)
            return False
        if not relayed:
            return False
        times = self._warm.pop(peer, None) or deque(maxlen=HOT_REQUESTS)
        while len(self._warm) >= MOST_WARM:
            del self._warm[next(iter(self._warm))]
        times.append(now)
        if len(times) < HOT_REQUESTS or times[0] < now - HOT_S:
            self._warm[peer] = times
            return False
        self.heat(peer, now)
        return True

    def heat(self, peer: NodeId, now: float) -> None:
        """`peer` is hot from now on."""
        self._warm.pop(peer, None)
        self._hot.pop(peer, None)
        self._hot[peer] = now

    def cool(self, peer: NodeId) -> bool:
        """Nothing of `peer` counts any more. Whether it was hot."""
        self._warm.pop(peer, None)
        return self._hot.pop(peer, None) is not None

    def cold(self, now: float) -> list[NodeId]:
        """Hot ones that are so no more: asked too long ago, or too many, those asked longest ago first."""
        many = len(self) - MOST_HOT
        return [peer for place, (peer, at) in enumerate(self._hot.items()) if place < many or at <= now - COLD_S]
