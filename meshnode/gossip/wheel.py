"""Which nodes fall due when, by the second, so that moving one costs O(1) and leaves nothing behind.

A heap of times would keep one stale item per renewed advert. Not for timers of the machine itself.
"""

from __future__ import annotations

import heapq
import math

from meshnode.model.ids import NodeId

_FAR_S = 600
_FAR_STEP_S = 60


class Wheel:
    """At most one due time per node. Nodes fall due up to 1 s late, those set over 10 min ahead up to 1 min late."""

    def __init__(self) -> None:
        self._slots: dict[int, set[NodeId]] = {}
        self._times: list[int] = []
        self._slot_of: dict[NodeId, int] = {}

    def put(self, node: NodeId, at: float, now: float) -> None:
        """Let `node` fall due at `at` and at no other time."""
        slot = math.ceil(at)
        if slot - now > _FAR_S:
            # Coarse far away: the number of slots stays in the thousands whatever lifetimes arrive.
            slot = -(-slot // _FAR_STEP_S) * _FAR_STEP_S
        if self._slot_of.get(node) == slot:
            return
        self.remove(node)
        self._slot_of[node] = slot
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heapq.heappush(self._times, slot)
        members.add(node)

    def remove(self, node: NodeId) -> None:
        """Forget `node`; nothing happens where it is unknown."""
        slot = self._slot_of.pop(node, None)
        if slot is not None:
            self._slots[slot].discard(node)

    def due(self, now: float) -> list[NodeId]:
        """Take out every node that is due, in an order that does not depend on hashes."""
        nodes: list[NodeId] = []
        while self._times and self._times[0] <= now:
            nodes += sorted(self._slots.pop(heapq.heappop(self._times)))
        for node in nodes:
            del self._slot_of[node]
        return nodes

    def next(self) -> float | None:
        """When the next node falls due."""
        while self._times and not self._slots[self._times[0]]:
            del self._slots[heapq.heappop(self._times)]
        return float(self._times[0]) if self._times else None
