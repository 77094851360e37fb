"""What ways through a mesh of 1,000 nodes cost: to look one up, after a link changed, a node went or came, and anew.

In this process, no sockets; a mesh of random links. Counterpart: meshnode.routing.tree. Not for choosing (choosing.py).
Runs as a program too, with whatever meshnode the path finds, so that two can be compared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from random import Random

import msgspec

from benchmarks.choosing import mesh
from meshnode.config.routing import RoutingSection
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing import Tree
from meshnode.routing.known import Known

NODES = 1000
LINKS = 4
"""That each node makes; it has twice as many."""

CHANGES, QUICK_CHANGES = 200, 10
MUST_MS = 1.0

LINK, GOES, COMES = "a change of one link", "a node went", "a node came"


@dataclass(frozen=True, slots=True)
class Change:
    """Milliseconds to follow one kind of change: the ways in the middle and at worst, and what nodes offer."""

    ways_ms: float
    worst_ms: float
    offers_ms: float


@dataclass(frozen=True, slots=True)
class Ways:
    """Milliseconds: to choose a way that is known, and one past a node that is on it (in the middle), to follow changes
    by kind, and to search all ways anew."""

    known_ms: float
    past_ms: float
    changes: dict[str, Change]
    anew_ms: float


class _Mesh:
    """A view that changes, one link at a time: one is dropped, and another made."""

    def __init__(self) -> None:
        self.rng = Random(1)
        self.nodes = list(mesh(NODES).links)
        self.me = mesh(1).me
        self.links: dict[frozenset[NodeId], int] = {}
        self.gone, self.lost = self.me, dict(self.links)
        for node in self.nodes:
            for other in self.rng.sample(self.nodes, LINKS):
                self._link(node, other)
        for node in self.rng.sample(self.nodes, 2 * LINKS):
            self._link(self.me, node)
        self.view = self._view(mesh(NODES).adverts)

    def link(self) -> View:
        """The next view: a link is dropped, and another made; adverts that say the same are the same."""
        dropped = self.rng.choice([pair for pair in self.links if self.me not in pair])
        del self.links[dropped]
        made = frozenset(self.rng.sample(self.nodes, 2))
        self.links[made] = self.rng.randint(1, 80)
        return self._next(self.view.adverts, dropped | made)

    def go(self) -> View:
        """The next view: a node has left, and its neighbours have said so."""
        node = self.gone = self.rng.choice(self.nodes)
        self.nodes.remove(node)
        dropped = [pair for pair in self.links if node in pair]
        self.lost = {pair: self.links.pop(pair) for pair in dropped}
        adverts = {other: advert for other, advert in self.view.adverts.items() if other != node}
        return self._next(adverts, frozenset().union(*dropped))

    def come(self) -> View:
        """The next view: whoever left is back, with its links."""
        self.nodes.append(self.gone)
        self.links |= self.lost
        return self._next(
            {**self.view.adverts, self.gone: mesh(NODES).adverts[self.gone]}, frozenset().union(*self.lost)
        )

    def _next(self, adverts: Mapping[NodeId, Advert], touched: frozenset[NodeId]) -> View:
        self.view = self._view(adverts, touched)
        return self.view

    def _link(self, one: NodeId, other: NodeId) -> None:
        if one != other:
            self.links[frozenset((one, other))] = self.rng.randint(1, 80)

    def _view(self, adverts: Mapping[NodeId, Advert], touched: frozenset[NodeId] | None = None) -> View:
        near: dict[NodeId, list[Neighbour]] = {}
        for (one, other), ms in self.links.items():
            near.setdefault(one, []).append(Neighbour(bytes(other), ms))
            near.setdefault(other, []).append(Neighbour(bytes(one), ms))
        told: dict[NodeId, Advert] = {
            node: msgspec.structs.replace(advert, neighbours=tuple(near.get(node, ())))
            if touched is None or node in touched
            else advert
            for node, advert in adverts.items()
        }
        own = {NodeId(one.id): one.rtt_ms / 1000 for one in near[self.me]}
        version = 1 if touched is None else self.view.version + 1
        return replace(mesh(1), adverts=told, links=own, version=version)


def measure(*, quick: bool) -> Ways:
    """All of it, in seconds."""
    story, section = _Mesh(), RoutingSection()
    known = Known(section)
    known.offers(story.view)
    found: dict[str, list[tuple[float, float]]] = {LINK: [], GOES: [], COMES: []}
    for _ in range(QUICK_CHANGES if quick else CHANGES):
        for kind, change in ((LINK, story.link), (GOES, story.go), (COMES, story.come)):
            found[kind].append(_followed_ms(known, change()))
    changes = {kind: _change(took) for kind, took in found.items()}
    tree = known.paths.tree(story.view)
    began = time.process_time()
    for node in story.nodes:
        tree.reach(node)
    known_ms = (time.process_time() - began) / NODES * 1000
    anew: list[float] = []
    for _ in range(3):
        began = time.process_time()
        Tree(story.view, section.relay_penalty_s)
        anew.append((time.process_time() - began) * 1000)
    return Ways(known_ms, _past_ms(known, story), changes, min(anew))


def _past_ms(known: Known, story: _Mesh) -> float:
    took: list[float] = []
    for node in story.nodes[:CHANGES]:
        way = known.paths.reach(story.view, node)
        if way is not None and way.hops > 1:
            began = time.process_time()
            known.paths.reach(story.view, node, [way.path[way.hops // 2]])
            took.append((time.process_time() - began) * 1000)
    return statistics.median(took)


def _followed_ms(known: Known, view: View) -> tuple[float, float]:
    began = time.process_time()
    known.paths.tree(view)
    after = time.process_time()
    known.offers(view)
    return (after - began) * 1000, (time.process_time() - after) * 1000


def _change(took: list[tuple[float, float]]) -> Change:
    ways, offers = zip(*took, strict=True)
    return Change(statistics.median(ways), max(ways), statistics.median(offers))


def ways_table(found: Ways) -> str:
    """Markdown."""
    rows = [
        ("to choose a way that is known", found.known_ms, True),
        ("to find one past a node that is on it, in the middle", found.past_ms, True),
    ]
    for kind, change in found.changes.items():
        rows += [
            (f"after {kind}, in the middle", change.ways_ms, True),
            ("  at worst, where it carried many", change.worst_ms, False),
            ("  what nodes offer, as seen then", change.offers_ms, False),
        ]
    rows.append(("to search all anew", found.anew_ms, False))
    lines = [
        f"| {title} | {ms:.3f} ms | {f'<= {MUST_MS:g} ms' if must else ''} | "
        f"{('pass' if ms <= MUST_MS else 'miss') if must else ''} |"
        for title, ms, must in rows
    ]
    return "\n".join([f"| ways through {NODES:,} nodes | measured | must | |", "|---|---:|---|---|", *lines])


if __name__ == "__main__":
    json.dump(asdict(measure(quick="--quick" in sys.argv)), sys.stdout)
