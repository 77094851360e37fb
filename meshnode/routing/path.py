"""Ways through the mesh: which nodes can be reached, at what cost, over whom. Pure; protocol.md §6.

The graph comes from adverts: a link counts if both ends say so; this node's own links are what it knows itself. Each
hop asks again with its own view, so a way is advice for everyone but the next hop. Not for choosing servers (plan).
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from typing import NamedTuple

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View

MOST_HOPS = 8
"""Longest way any node lets a job take (protocol.md §6)."""

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
    """Cheapest ways from this node to every other, for each number of hops that is worth its price."""

    def __init__(self, view: View, relay_penalty_s: float, exclude: Collection[NodeId] = ()) -> None:
        self._nodes = sorted({view.me, *view.adverts, *view.links}.difference(exclude) | {view.me})
        self._index = {node: index for index, node in enumerate(self._nodes)}
        self._labels: list[list[_Label]] = [[] for _ in self._nodes]
        self._cheapest: dict[NodeId, Reach] = {}
        self._search(_edges(view, self._index), self._index[view.me], relay_penalty_s)

    def _search(self, edges: list[list[tuple[int, float]]], me: int, penalty_s: float) -> None:
        """Dijkstra with labels of (cost, hops): labels leave the heap by cost, so a later one for the same node is
        worth keeping only if it needs fewer hops (multi-criteria search after Martins, 1984)."""
        settled = [MOST_HOPS + 1] * len(self._nodes)
        offered = [(float("inf"), MOST_HOPS + 1)] * len(self._nodes)
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
                cost += penalty_s
            for neighbour, rtt_s in edges[node]:
                further = cost + rtt_s
                best_cost, best_hops = offered[neighbour]
                if neighbour == me or hops >= settled[neighbour] or (further >= best_cost and hops >= best_hops):
                    continue
                if further < best_cost and hops <= best_hops:
                    offered[neighbour] = (further, hops)
                heappush(heap, (further, hops, neighbour, label))

    def cheapest(self, target: NodeId) -> tuple[float, int] | None:
        """Cost in seconds and hops of the cheapest way of any length, or None."""
        index = self._index.get(target)
        labels = self._labels[index] if index is not None else None
        return labels[0][:2] if labels else None

    def reach(self, target: NodeId, hops_left: int = MOST_HOPS) -> Reach | None:
        """The cheapest way of at most `hops_left` hops, or None."""
        known = self._cheapest.get(target)
        if known is not None and known.hops <= hops_left:
            return known
        index = self._index.get(target)
        if index is None:
            return None
        label: _Label | None = next((label for label in self._labels[index] if label[1] <= hops_left), None)
        if label is None:
            return None
        reach = self._way(label)
        if label is self._labels[index][0]:
            self._cheapest[target] = reach
        return reach

    def _way(self, label: _Label | None) -> Reach:
        """The way that a label stands for."""
        assert label is not None
        cost_s, hops = label[:2]
        path: list[NodeId] = []
        while label is not None:
            path.append(self._nodes[label[2]])
            label = label[3]
        path.reverse()
        return Reach(cost_s, hops, path[min(1, hops)], tuple(path))


def _edges(view: View, index: dict[NodeId, int]) -> list[list[tuple[int, float]]]:
    """Where each node that forwards can go on to: index of the neighbour and round trip in seconds.

    Of two advertised round trips the larger counts: claiming to be near must not attract traffic.
    """
    heard = {
        node: {neighbour.id: neighbour.rtt_ms for neighbour in advert.neighbours}
        for node, advert in view.adverts.items()
        if node in index and node != view.me and not advert.gone
    }
    edges: list[list[tuple[int, float]]] = [[] for _ in index]
    edges[index[view.me]] = [(index[node], rtt_s) for node, rtt_s in view.links.items() if node in index]
    nothing: dict[bytes, int] = {}
    for node, neighbours in heard.items():
        if not _relays(view.adverts[node]):
            continue
        onward = edges[index[node]]
        for other, rtt_ms in neighbours.items():
            back_ms = heard.get(other, nothing).get(node)  # type: ignore[call-overload]  # ids hash as their bytes
            if back_ms is not None and other != node:
                onward.append((index[other], max(rtt_ms, back_ms) / 1000))  # type: ignore[index]
    return edges


def _relays(advert: Advert) -> bool:
    return advert.relay and not advert.draining


class Paths:
    """The tree of the newest view, kept until the view changes."""

    def __init__(self, relay_penalty_s: float) -> None:
        self._relay_penalty_s = relay_penalty_s
        self._view: View | None = None
        self._tree: Tree | None = None

    def tree(self, view: View) -> Tree:
        """All ways from `view.me`."""
        if self._tree is None or self._view is None or not same_view(view, self._view):
            self._tree = Tree(view, self._relay_penalty_s)
            self._view = view
        return self._tree

    def reach(
        self, view: View, target: NodeId, exclude: Collection[NodeId] = (), hops_left: int = MOST_HOPS
    ) -> Reach | None:
        """The cheapest way to `target` past `exclude` in at most `hops_left` hops; None if there is none. A new tree is
        grown only where the known way leads through `exclude`."""
        if view.me in exclude or target in exclude:
            return None
        reach = self.tree(view).reach(target, hops_left)
        if reach is not None and not set(exclude).isdisjoint(reach.path):
            reach = Tree(view, self._relay_penalty_s, exclude).reach(target, hops_left)
        return reach

    def next_hop(
        self, view: View, target: NodeId, exclude: Collection[NodeId] = (), hops_left: int = MOST_HOPS
    ) -> NodeId | None:
        """Whom to hand a job for `target` that has passed `exclude` and may take `hops_left` more hops; None if there
        is nobody."""
        reach = self.reach(view, target, exclude, hops_left)
        return reach.next_hop if reach is not None else None


def same_view(one: View, other: View) -> bool:
    """Whether what was derived from one view holds for the other. Version 0 is a view nobody numbered."""
    return one is other or (one.version == other.version > 0 and one.me == other.me)
