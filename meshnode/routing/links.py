"""Who can pass a job on to whom in a view: a link counts if both ends say so, this node's own if it is up. Pure.

Follows from view to view and says what became of links, so that ways need not be searched anew for each advert. Not for
ways (tree.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

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
    """Nodes by index, in the order of their ids, and where each that forwards can go on to: index of the neighbour and
    round trip in seconds. Of two advertised round trips the larger counts: claiming to be near must not attract
    traffic."""

    def __init__(self, view: View, exclude: Collection[NodeId] = ()) -> None:
        self.nodes = sorted({view.me, *view.adverts, *view.links}.difference(exclude) | {view.me})
        self.index = {node: place for place, node in enumerate(self.nodes)}
        self.me = self.index[view.me]
        self._view = view
        self._heard: list[dict[bytes, int]] = [{} for _ in self.nodes]
        self._relays = [False] * len(self.nodes)
        for node, advert in view.adverts.items():
            if node in self.index and node != view.me:
                self._hear(self.index[node], advert)
        self.onward = [self._from(place) for place in range(len(self.nodes))]

    def follow(self, view: View) -> Changes | None:
        """Take in what changed since the last view; None where there are other nodes than in it."""
        before, self._view = self._view, view
        if view.me != before.me or view.adverts.keys() != before.adverts.keys():
            return None
        if not view.links.keys() <= self.index.keys():
            return None
        touched = {self.me} if view.links != before.links else set()
        for node, advert in view.adverts.items():
            # Most are the same object; only who really changed is looked at, and nobody's own word of this node.
            if advert is not (old := before.adverts[node]) and node != view.me and not _says_same(old, advert):
                place = self.index[node]
                touched.add(place)
                touched.update(self._near(self._heard[place]))
                self._hear(place, advert)
                touched.update(self._near(self._heard[place]))
        return self._compare(touched)

    def toward(self, place: int) -> list[tuple[int, float]]:
        """Who can pass a job on to that node, and the round trip."""
        near = {*self._near(self._heard[place]), self.me}
        return [(other, rtt_s) for other in near for there, rtt_s in self.onward[other] if there == place]

    def _compare(self, touched: Iterable[int]) -> Changes:
        lost: list[Edge] = []
        gained: list[Edge] = []
        for place in touched:
            old, new = dict(self.onward[place]), self._from(place)
            self.onward[place] = new
            for other, rtt_s in new:
                before_s = old.pop(other, None)
                if before_s is None or rtt_s < before_s:
                    gained.append((place, other))
                elif rtt_s > before_s:
                    lost.append((place, other))
                    gained.append((place, other))
            lost.extend((place, other) for other in old)
        return Changes(lost, gained)

    def _hear(self, place: int, advert: Advert) -> None:
        self._heard[place] = {} if advert.gone else {one.id: one.rtt_ms for one in advert.neighbours}
        self._relays[place] = advert.relay and not advert.draining

    def _near(self, heard: dict[bytes, int]) -> list[int]:
        """Indices of those it tells of."""
        return [self.index[node] for node in heard if node in self.index]  # type: ignore[index]  # ids hash as bytes

    def _from(self, place: int) -> list[tuple[int, float]]:
        index = self.index
        if place == self.me:
            return [(index[node], rtt_s) for node, rtt_s in self._view.links.items() if node in index]
        if not self._relays[place]:
            return []
        node = self.nodes[place]
        found: list[tuple[int, float]] = []
        for other, rtt_ms in self._heard[place].items():
            there = index.get(other)  # type: ignore[call-overload]  # ids hash as their bytes
            back_ms = self._heard[there].get(node) if there is not None and there != place else None
            if back_ms is not None:
                found.append((there, max(rtt_ms, back_ms) / 1000))
        return found


def _says_same(one: Advert, other: Advert) -> bool:
    return (one.neighbours, one.relay, one.draining, one.gone) == (
        other.neighbours, other.relay, other.draining, other.gone,
    )  # fmt: skip
