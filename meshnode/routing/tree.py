"""The cheapest ways from this node to every other, mended as nodes and links come and go. Pure; protocol.md §6.

Searched once, in 7 ms for a thousand nodes; then a change costs as much as the part of the ways that it concerns.
Counterparts: links.py (the graph), path.py (which tree holds for a view).
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing.links import Changes, Edge, Links

MOST_HOPS = 8
"""Longest way any node lets a job take (protocol.md §6)."""

MENDED = 64
"""Changes of which is remembered whose ways they changed."""

MUCH = 256
"""Of more edges that changed at once, and more than one for four nodes, all is searched anew: mending would take up to
four times as long."""

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

    def __init__(self, view: View, relay_penalty_s: float) -> None:
        self.version = 0
        self._links = Links(view)
        self._penalty_s = relay_penalty_s
        # By place, the cheapest first. These lists are replaced and never changed, once all was searched.
        self._labels: list[list[_Label]] = [[] for _ in self._links.nodes]
        self._cheapest: dict[NodeId, Reach] = {}
        self._mended: deque[frozenset[NodeId]] = deque(maxlen=MENDED)
        self._search()

    def follow(self, view: View) -> bool:
        """Become the tree of `view`, which has come after the last; False where a new one has to be made, since it is
        another node's."""
        changes = self._links.follow(view)
        if changes is None:
            return False
        self._labels.extend([] for _ in range(len(self._links.nodes) - len(self._labels)))
        many = len(changes.lost) + len(changes.gained)
        if many > max(MUCH, len(self._labels) // 4):
            self._search_anew()
        elif many:
            self._mend(changes)
        return True

    def without(self, nodes: Collection[NodeId]) -> Tree:
        """The tree of the same view past `nodes`, at the price of what led over them. It does not follow."""
        other = copy.copy(self)
        other._links, lost = self._links.without(nodes)
        other._labels = list(self._labels)
        other._cheapest = {}
        other._mended = deque(maxlen=MENDED)
        other._mend(Changes(lost, []))
        return other

    def changed_since(self, version: int) -> frozenset[NodeId] | None:
        """The nodes to which ways are others than in that version, also those that are gone; None where that may be all
        or is too long ago."""
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
            for neighbour, rtt_s in edges[node].items():
                further = cost + rtt_s
                best_cost, best_hops = offered[neighbour]
                if neighbour == me or hops >= settled[neighbour] or (further >= best_cost and hops >= best_hops):
                    continue
                if further < best_cost and hops <= best_hops:
                    offered[neighbour] = (further, hops)
                heappush(heap, (further, hops, neighbour, label))

    def _search_anew(self) -> None:
        self._labels = [[] for _ in self._links.nodes]
        self._cheapest.clear()
        self._mended.clear()
        self.version += 1
        self._search()

    def _mend(self, changes: Changes) -> None:
        """Drop what led over lost edges, and let what is left spread over new ones and into the gaps (after Ramalingam
        and Reps, 1996)."""
        touched = self._cut(changes.lost)
        heap = [offer for place in touched for offer in self._best_for(place)]
        for here, there in changes.gained:
            rtt_s = self._links.onward[here][there]
            heap.extend(offer for one in self._labels[here] if (offer := self._over(one, there, rtt_s)) is not None)
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
        self._drop(doomed, touched, gone)
        return touched

    def _drop(self, doomed: list[_Label], touched: set[int], gone: Mapping[int, set[int]]) -> None:
        """Drop labels and all that came from them, over edges that there are and those that are `gone`."""
        labels, onward = self._labels, self._links.onward
        while doomed:
            label = doomed.pop()
            place = label[2]
            left = [one for one in labels[place] if one is not label]
            if len(left) == len(labels[place]):
                continue
            labels[place] = left
            touched.add(place)
            for other in (*gone.get(place, ()), *onward[place]):
                for one in labels[other]:
                    if one[3] is label:
                        doomed.append(one)

    def _best_for(self, place: int) -> list[_Label]:
        """What all neighbours of a node offer it, without what another offer beats."""
        me, best = self._links.me, dict[int, _Label]()
        for other, rtt_s in self._links.toward(place) if place != me else ():
            penalty_s = self._penalty_s if other != me else 0.0
            for label in self._labels[other]:
                cost, hops = label[0] + penalty_s + rtt_s, label[1] + 1
                if hops <= MOST_HOPS and (hops not in best or cost < best[hops][0]):
                    best[hops] = (cost, hops, place, label)
        kept: list[_Label] = []
        for _, offer in sorted(best.items()):
            if not kept or offer[0] < kept[-1][0]:
                kept.append(offer)
        return kept

    def _over(self, label: _Label, there: int, rtt_s: float) -> _Label | None:
        """What a label offers a neighbour."""
        cost, hops, place, _ = label
        if there == self._links.me or hops >= MOST_HOPS:
            return None
        if place != self._links.me:
            cost += self._penalty_s
        return cost + rtt_s, hops + 1, there, label

    def _spread(self, heap: list[_Label], touched: set[int]) -> None:
        """Dijkstra again, among labels that are there: a better one takes the place of those that it beats, and what
        came from these goes with them, since as good or better will come from it."""
        labels, onward, me = self._labels, self._links.onward, self._links.me
        heapify(heap)
        while heap:
            label = heappop(heap)
            cost, hops, place, parent = label
            if _beaten(labels[place], cost, hops) or (parent is not None and not self._holds(parent)):
                continue
            beaten = [one for one in labels[place] if one[0] >= cost and one[1] >= hops]
            if beaten:
                self._drop(beaten, touched, {})
            # Whoever is cheaper needs more hops, and whoever needs fewer costs more.
            at = sum(one[0] < cost for one in labels[place])
            labels[place] = [*labels[place][:at], label, *labels[place][at:]]
            touched.add(place)
            if hops == MOST_HOPS:
                continue
            hops += 1
            cost += self._penalty_s
            for neighbour, rtt_s in onward[place].items():
                if neighbour != me and not _beaten(labels[neighbour], cost + rtt_s, hops):
                    heappush(heap, (cost + rtt_s, hops, neighbour, label))

    def _holds(self, label: _Label) -> bool:
        for one in self._labels[label[2]]:  # noqa: SIM110
            if one is label:
                return True
        return False


def _beaten(labels: list[_Label], cost_s: float, hops: int) -> bool:
    # A loop, since a generator would take most of the time of a search.
    for one in labels:  # noqa: SIM110
        if one[0] <= cost_s and one[1] <= hops:
            return True
    return False


def _came_from(label: _Label, place: int) -> bool:
    return label[3] is not None and label[3][2] == place
