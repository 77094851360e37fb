"""What ways through a mesh of 1,000 nodes cost: to look one up, after an advert of a link changed, and searched anew.

In this process, no sockets; a mesh of random links. Counterpart: meshnode.routing.tree. Not for choosing (choosing.py).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Ways:
    """Milliseconds: to choose a way that is known, to follow a change of one link (middle and worst), the same for what
    nodes offer, and to search all ways anew."""

    known_ms: float
    followed_ms: float
    worst_ms: float
    offers_ms: float
    anew_ms: float


class _Mesh:
    """A view that changes, one link at a time: one is dropped, and another made."""

    def __init__(self) -> None:
        self.rng = Random(1)
        self.nodes = list(mesh(NODES).links)
        self.me = mesh(1).me
        self.links: dict[frozenset[NodeId], int] = {}
        for node in self.nodes:
            for other in self.rng.sample(self.nodes, LINKS):
                self._link(node, other)
        for node in self.rng.sample(self.nodes, 2 * LINKS):
            self._link(self.me, node)
        self.view = self._view(mesh(NODES).adverts)

    def change(self) -> View:
        """The next view; adverts that say the same are the same."""
        dropped = self.rng.choice([pair for pair in self.links if self.me not in pair])
        del self.links[dropped]
        made = frozenset(self.rng.sample(self.nodes, 2))
        self.links[made] = self.rng.randint(1, 80)
        self.view = self._view(self.view.adverts, dropped | made)
        return self.view

    def _link(self, one: NodeId, other: NodeId) -> None:
        if one != other:
            self.links[frozenset((one, other))] = self.rng.randint(1, 80)

    def _view(self, adverts: object, touched: frozenset[NodeId] | None = None) -> View:
        near: dict[NodeId, list[Neighbour]] = {}
        for (one, other), ms in self.links.items():
            near.setdefault(one, []).append(Neighbour(bytes(other), ms))
            near.setdefault(other, []).append(Neighbour(bytes(one), ms))
        assert isinstance(adverts, dict)
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
    followed: list[float] = []
    offers: list[float] = []
    for _ in range(QUICK_CHANGES if quick else CHANGES):
        view = story.change()
        began = time.process_time()
        known.paths.tree(view)
        after = time.process_time()
        known.offers(view)
        followed.append((after - began) * 1000)
        offers.append((time.process_time() - after) * 1000)
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
    return Ways(known_ms, statistics.median(followed), max(followed), statistics.median(offers), min(anew))


def ways_table(found: Ways) -> str:
    """Markdown."""
    rows = (
        ("to choose a way that is known", found.known_ms, True),
        ("after a change of one link, in the middle", found.followed_ms, True),
        ("  at worst, where it carried many", found.worst_ms, False),
        ("  what nodes offer, as seen then", found.offers_ms, False),
        ("to search all anew, when a node comes or goes", found.anew_ms, False),
    )
    lines = [
        f"| {title} | {ms:.3f} ms | {f'<= {MUST_MS:g} ms' if must else ''} | "
        f"{('pass' if ms <= MUST_MS else 'miss') if must else ''} |"
        for title, ms, must in rows
    ]
    return "\n".join([f"| ways through {NODES:,} nodes | measured | must | |", "|---|---:|---|---|", *lines])
