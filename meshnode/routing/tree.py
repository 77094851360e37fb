"""The cheapest ways from this node to every other, mended as links come and go. Pure; protocol.md §6.

Searched once, in 7 ms for a thousand nodes; then a change costs as much as the part of the ways that it concerns.
Counterparts: links.py (the graph), path.py (which tree holds for a view).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing.links import Changes, Edge, Links

MOST_HOPS = 8
"""Longest way any node lets a job take (protocol.md §6)."""

MENDED = 64
"""Changes of which is remembered whose ways they changed."""

_Label = tuple[float, int, int, "_Label | None"]
"""Cost in seconds, hops, index of the node, and the label it was reached from."""


class Reach(NamedTuple):
    """A way to one node. `cost_s` is the round trip with relay penalties; `path` begins with this node and ends with
    the target, so that `hops` is one less than its length; `next_hop` is the target itself where it is linked."""

    cost_s: float
    hops: int
    next_hop: NodeId
    path: tuple[NodeId, ...]


class Tree:
    """Cheapest ways from this node to every other, for each number of hops that is worth its price. `version` grows
    with each change."""

    def __init__(self, view: View, relay_penalty_s: float, exclude: Collection[NodeId] = ()) -> None:
        self.version = 0
        self._links = Links(view, exclude)
        self._penalty_s = relay_penalty_s
        self._labels: list[list[_Label]] = [[] for _ in self._links.nodes]
        self._cheapest: dict[NodeId, Reach] = {}
        self._mended: deque[frozenset[NodeId]] = deque(maxlen=MENDED)
        self._search()

    def follow(self, view: View) -> bool:
        """Become the tree of `view`, which has come after the last; False where a new one has to be made, since there
        are other nodes."""
        changes = self._links.follow(view)
        if changes is None:
            return False
        if changes.lost or changes.gained:
            self._mend(changes)
        return True

    def changed_since(self, version: int) -> frozenset[NodeId] | None:
        """The nodes to which ways are others than in that version; None where that is too long ago."""
        many = self.version - version
        if many > len(self._mended) or many < 0:
            return None
        return frozenset().union(*(self._mended[-1 - back] for back in range(many)))

    def cheapest(self, target: NodeId) -> tuple[float, int] | None:
        """Cost in seconds and hops of the cheapest way of any length, or None."""
        index = self._links.index.get(target)
        labels = self._labels[index] if index is not None else None
        return labels[0][:2] if labels else None

    def reach(self, target: NodeId, hops_left: int = MOST_HOPS) -> Reach | None:
        """The cheapest way of at most `hops_left` hops, or None."""
        known = self._cheapest.get(target)
        if known is not None and known.hops <= hops_left:
            return known
        index = self._links.index.get(target)
        if index is None:
            return None
        label: _Label | None = next((label for label in self._labels[index] if label[1] <= hops_left), None)
        if label is None:
            return None
        reach = self._way(label)
        if label is self._labels[index][0]:
            self._cheapest[target] = reach
        return reach

    def _way(self, label: _Label) -> Reach:
        cost_s, hops = label[:2]
        path: list[NodeId] = []
        at: _Label | None = label
        while at is not None:
            path.append(self._links.nodes[at[2]])
            at = at[3]
        path.reverse()
        return Reach(cost_s, hops, path[min(1, hops)], tuple(path))

    def _search(self) -> None:
        """Dijkstra with labels of (cost, hops): labels leave the heap by cost, so a later one for the same node is
        worth keeping only if it needs fewer hops (multi-criteria search after Martins, 1984)."""
        edges, me = self._links.onward, self._links.me
        settled = [MOST_HOPS + 1] * len(self._labels)
        offered = [(float("inf"), MOST_HOPS + 1)] * len(self._labels)
        heap: list[_Label] = [(0.0, 0, me, None)]
        while heap:
            label = heappop(heap)
            cost, hops, node, _ = label
            if hops >= settled[node]:
                continue
            settled[node] = hops
            self._labels[node].append(label)
            if hops == MOST_HOPS:
                continue
            hops += 1
            if node != me:
                cost += self._penalty_s
            for neighbour, rtt_s in edges[node]:
                further = cost + rtt_s
                best_cost, best_hops = offered[neighbour]
                if neighbour == me or hops >= settled[neighbour] or (further >= best_cost and hops >= best_hops):
                    continue
                if further < best_cost and hops <= best_hops:
                    offered[neighbour] = (further, hops)
                heappush(heap, (further, hops, neighbour, label))

    def _mend(self, changes: Changes) -> None:
        """Drop what led over lost edges, and let what is left spread over new ones and into the gaps (after Ramalingam
        and Reps, 1996)."""
        touched = self._cut(changes.lost)
        heap: list[_Label] = []
        for place in touched:
            for other, rtt_s in self._links.toward(place):
                heap.extend(self._over(other, place, rtt_s))
        for here, there in changes.gained:
            rtt_s = next(rtt_s for other, rtt_s in self._links.onward[here] if other == there)
            heap.extend(self._over(here, there, rtt_s))
        self._spread(heap, touched)
        nodes = frozenset(self._links.nodes[place] for place in touched)
        for node in nodes:
            self._cheapest.pop(node, None)
        self.version += 1
        self._mended.append(nodes)

    def _cut(self, lost: Iterable[Edge]) -> set[int]:
        """Drop every label that leads over a lost edge; whose they were."""
        touched: set[int] = set()
        gone: dict[int, set[int]] = {}
        for here, there in lost:
            gone.setdefault(here, set()).add(there)
        doomed = [one for here in gone for there in gone[here] for one in self._labels[there] if _came_from(one, here)]
        while doomed:
            label = doomed.pop()
            place = label[2]
            if not self._holds(label):
                continue
            self._labels[place] = [one for one in self._labels[place] if one is not label]
            touched.add(place)
            near = gone.get(place, set()).union(other for other, _ in self._links.onward[place])
            doomed.extend(one for other in near for one in self._labels[other] if one[3] is label)
        return touched

    def _holds(self, label: _Label) -> bool:
        return any(one is label for one in self._labels[label[2]])

    def _over(self, here: int, there: int, rtt_s: float) -> list[_Label]:
        """What the labels of one node offer its neighbour."""
        me = self._links.me
        if there == me:
            return []
        penalty_s = 0.0 if here == me else self._penalty_s
        return [
            (one[0] + penalty_s + rtt_s, one[1] + 1, there, one) for one in self._labels[here] if one[1] < MOST_HOPS
        ]

    def _spread(self, heap: list[_Label], touched: set[int]) -> None:
        """Dijkstra again, among labels that are there: a better one takes the place of those that it beats."""
        heapify(heap)
        while heap:
            label = heappop(heap)
            cost, hops, place, parent = label
            # One whose own way was beaten may still be as good as this, by rounding: it must not stay.
            labels = [one for one in self._labels[place] if one[3] is None or self._holds(one[3])]
            if any(one[0] <= cost and one[1] <= hops for one in labels):
                continue
            if parent is None or not self._holds(parent):
                continue  # beaten meanwhile, by one that offers more
            kept = [one for one in labels if one[0] < cost or one[1] < hops]
            self._labels[place] = sorted([*kept, label], key=lambda one: one[:2])
            touched.add(place)
            for neighbour, rtt_s in self._links.onward[place]:
                for offer in self._over_from(label, neighbour, rtt_s):
                    heappush(heap, offer)

    def _over_from(self, label: _Label, there: int, rtt_s: float) -> list[_Label]:
        if there == self._links.me or label[1] >= MOST_HOPS:
            return []
        return [(label[0] + self._penalty_s + rtt_s, label[1] + 1, there, label)]


def _came_from(label: _Label, place: int) -> bool:
    return label[3] is not None and label[3][2] == place
