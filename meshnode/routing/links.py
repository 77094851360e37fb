"""Who can pass a job on to whom in a view: a link counts if both ends say so, this node's own if it is up. Pure.

Follows from view to view and says what became of links, so that ways need not be searched anew for each advert. Not for
ways (tree.py).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View

Edge = tuple[int, int]
"""From whom to whom, by index."""


class Changes(NamedTuple):
    """Edges that are gone or longer than before, and those that are new or shorter."""

    lost: list[Edge]
    gained: list[Edge]


class Links:
    """Nodes by place, at first in the order of their ids, and where each that forwards can go on to: the neighbour's
    place and the round trip in seconds. Of two advertised round trips the larger counts: claiming to be near must not
    attract traffic.

    A node keeps its place while the view knows it; the place of one that is gone is another's from the next view on.
    """

    def __init__(self, view: View) -> None:
        self.nodes: list[NodeId] = []
        self.index: dict[NodeId, int] = {}
        self.onward: list[dict[int, float]] = []
        self._heard: list[dict[bytes, int]] = []
        self._relays: list[bool] = []
        self._free: list[int] = []
        self._left: list[NodeId] = []
        self._view = view
        for node in sorted({view.me, *view.adverts, *view.links}):
            self._join(node)
        self.me = self.index[view.me]
        for node, advert in view.adverts.items():
            if node != view.me:
                self._note(self.index[node], advert)
        for here, onward in enumerate(self.onward):
            for there in self._near(view.links if here == self.me else self._heard[here]):
                if (rtt_s := self._round_trip_s(here, there)) is not None:
                    onward[there] = rtt_s

    def follow(self, view: View) -> Changes | None:
        """Take in what changed since the last view; None where that was another node's."""
        before, self._view = self._view, view
        if view.me != before.me:
            return None
        was = before.adverts.get
        # Most are the same object; only who really changed is looked at.
        changed = [(node, old, advert) for node, advert in view.adverts.items() if advert is not (old := was(node))]
        fresh = [node for node, old, _ in changed if old is None]
        here_still = len(view.adverts) - len(fresh)
        gone = before.adverts.keys() - view.adverts.keys() if here_still < len(before.adverts) else frozenset()
        self._settle({*fresh, *view.links}, {*gone, *before.links})
        doubtful: set[Edge] = set()
        for node in gone:
            doubtful |= self._hear(node, None)
        for node, old, advert in changed:
            if old is None or not _says_same(old, advert):
                doubtful |= self._hear(node, advert)
        own = {node for node, _ in before.links.items() ^ view.links.items()}
        return self._compare(doubtful.union((self.me, there) for there in self._near(own)))

    def without(self, nodes: Collection[NodeId]) -> tuple[Links, list[Edge]]:
        """The same past `nodes`, and the edges that are missing in it. It does not follow."""
        other = copy.copy(self)
        other.onward = list(self.onward)
        lost: list[Edge] = []
        for place in self._near(nodes):
            lost.extend((place, there) for there in other.onward[place])
            other.onward[place] = {}
            for here, _ in other.toward(place):
                lost.append((here, place))
                other.onward[here] = {there: rtt_s for there, rtt_s in other.onward[here].items() if there != place}
        return other, lost

    def toward(self, place: int) -> list[tuple[int, float]]:
        """Who can pass a job on to that node, and the round trip."""
        near = {*self._near(self._heard[place]), self.me}
        return [(other, self.onward[other][place]) for other in near if place in self.onward[other]]

    def _settle(self, here: set[NodeId], perhaps: set[NodeId]) -> None:
        """Give whoever is new a place, and the places of those that were gone before to others: until now their ways
        had to be told from them. `perhaps`: who may have left."""
        self._free.extend(map(self.index.pop, self._left))
        view = self._view
        self._left = [node for node in perhaps.intersection(self.index) if not _knows(view, node)]
        for node in sorted(here.difference(self.index)):
            self._join(node)

    def _join(self, node: NodeId) -> None:
        if self._free:
            self.index[node] = place = self._free.pop()
            self.nodes[place] = node
            return
        self.index[node] = len(self.nodes)
        self.nodes.append(node)
        self.onward.append({})
        self._heard.append({})
        self._relays.append(False)

    def _hear(self, node: NodeId, advert: Advert | None) -> set[Edge]:
        """What a node says of its links, or nothing any more; the edges that may be others now. What others hear from
        this node itself does not count here."""
        place = self.index.get(node)
        if place is None or place == self.me:
            return set()
        old, relayed = self._heard[place], self._relays[place]
        self._note(place, advert)
        new = self._heard[place]
        words = old.items() ^ new.items() if relayed == self._relays[place] else old.items() | new.items()
        near = self._near({other for other, _ in words})
        return {edge for other in near for edge in ((place, other), (other, place))}

    def _note(self, place: int, advert: Advert | None) -> None:
        known = None if advert is None or advert.gone else advert
        self._heard[place] = {one.id: one.rtt_ms for one in known.neighbours} if known is not None else {}
        self._relays[place] = known is not None and known.relay and not known.draining

    def _near(self, nodes: Iterable[bytes]) -> list[int]:
        """Places of those that are known."""
        index: Mapping[Any, int] = self.index  # ids hash as their bytes
        return [index[node] for node in nodes if node in index]

    def _round_trip_s(self, here: int, there: int) -> float | None:
        """Of the edge between them; None if there is none."""
        if here == self.me:
            return self._view.links.get(self.nodes[there])
        there_ms = self._heard[here].get(self.nodes[there]) if self._relays[here] else None
        back_ms = self._heard[there].get(self.nodes[here])
        return None if there_ms is None or back_ms is None or here == there else max(there_ms, back_ms) / 1000

    def _compare(self, doubtful: Iterable[Edge]) -> Changes:
        lost: list[Edge] = []
        gained: list[Edge] = []
        for edge in doubtful:
            here, there = edge
            before_s, now_s = self.onward[here].pop(there, None), self._round_trip_s(here, there)
            if now_s is not None:
                self.onward[here][there] = now_s
            if before_s is not None and (now_s is None or now_s > before_s):
                lost.append(edge)
            if now_s is not None and (before_s is None or now_s != before_s):
                gained.append(edge)
        return Changes(lost, gained)


def _knows(view: View, node: NodeId) -> bool:
    return node == view.me or node in view.adverts or node in view.links


def _says_same(one: Advert, other: Advert) -> bool:
    return (one.neighbours, one.relay, one.draining, one.gone) == (
        other.neighbours, other.relay, other.draining, other.gone,
    )  # fmt: skip
