"""The links of one node in a mesh too large for links to all: which are chosen, kept, exchanged and closed. Pure.

Joins what is known (book.py), whom to choose (views.py), who is asked often (heat.py) and what links are like. Not for
dialling nor its failures (dialling.py). protocol.md §5, overlay.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.gossip.book import Book
from meshnode.gossip.heat import Heat
from meshnode.gossip.overlay_events import Condition
from meshnode.gossip.passive import Groups
from meshnode.gossip.shedding import Standing, excess, worst
from meshnode.gossip.targets import Kind
from meshnode.gossip.views import ANCHORS, Views, place_of
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId


@dataclass(slots=True)
class Held:
    """A link: since when, and whether this node dialled it."""

    since: float
    dialled: bool = False


@dataclass(slots=True)
class Neighbourhood:
    """`linked` are all links, `leaving` those of them that are being closed; `inviter` says who brought a node."""

    section: MeshSection
    rng: random.Random
    book: Book
    views: Views
    inviter: Callable[[Advert], bytes]
    heat: Heat = field(default_factory=Heat)
    linked: dict[NodeId, Held] = field(default_factory=dict)
    leaving: set[NodeId] = field(default_factory=set)
    round_at: float = float("inf")

    @property
    def staying(self) -> Collection[NodeId]:
        """Links that count."""
        # In the order of linking: a set's order would make equal runs differ.
        return [peer for peer in self.linked if peer not in self.leaving] if self.leaving else self.linked.keys()

    def wants(self, node: NodeId) -> bool:
        """Whether a node that is known shall be linked for good."""
        return not self.views.wide or node in self.views.chosen or node in self.heat

    def offer(self, node: NodeId, advert: Advert) -> bool:
        """A node is alive. Whether that may change what is chosen."""
        if not self.views.wide:
            return False
        new = self.views.passive.offer(node, lambda: self.groups(advert))
        if node in self.views.anchors and node in self.book.targets:
            self.views.choose(node, self.groups(advert) or ("", b""))
        return new and self.views.lacks(self.staying)

    def groups(self, advert: Advert) -> Groups | None:
        """Where a node is and who brought it; None when it cannot be dialled from here."""
        told = self.book.told(advert)
        return (place_of(told), self.inviter(advert)) if told else None

    def switch(self, now: float) -> None:
        """The mesh has become too large for links to all, or small enough. No link ends by that: what this node had
        dialled itself is what it chose, as far as there is room."""
        self.round_at = now + self._pause_s() if self.views.wide else float("inf")
        if not self.views.wide:
            return
        for node, advert in self.book.adverts.items():
            held = self.linked.get(node)
            target = self.book.targets.get(node)
            if target is None or target.kind is not Kind.KNOWN or target.once:
                continue
            if held is not None and held.dialled and len(self.views.chosen) < self.section.active_links:
                self.views.choose(node, self.groups(advert) or ("", b""))
            else:
                self.book.drop(node)

    def choose(self, barred: Callable[[NodeId, float], bool], now: float) -> list[NodeId]:
        """Nodes to dial that were chosen just now."""
        picked: list[NodeId] = []
        while (node := self.views.pick(self.staying, lambda node: barred(node, now), now)) is not None:
            picked.append(node)
        return picked

    def round_due(self, now: float) -> bool:
        """Whether it is time to look at the links; then the next time is set."""
        if now < self.round_at:
            return False
        self.round_at = now + self._pause_s()
        return True

    def look(self, links: Mapping[NodeId, Condition], now: float) -> list[NodeId]:
        """The links to close now. When no chosen one is left to spare, and it is this node's turn, one more is chosen,
        for which the next round gives another up."""
        if not self.views.wide:
            return []
        standing = {peer: self._standing(peer, links[peer], now) for peer in self.staying if peer in links}
        spare = self.views.spare(self.staying)
        exchanged = self._exchanged(standing) if spare else []
        closed = [*self._cooled(standing, now), *exchanged]
        # What goes already is none too many: without this a link could be named twice, and another go in its place.
        closed += self._too_many({peer: one for peer, one in standing.items() if peer not in closed})
        for peer in closed:
            self.leaving.add(peer)
            self.views.parted(peer, now)
            if (target := self.book.targets.get(peer)) is not None and target.kind is Kind.KNOWN:
                self.book.drop(peer)
        self.refill()
        if spare <= len(exchanged) and self._my_turn():
            self.views.try_another()
        return closed

    def refill(self) -> None:
        """O(nodes), when so many of the sample are gone that the stream of news does not fill it again."""
        if len(self.views.passive) * 2 >= self.section.passive_nodes:
            return
        for node, advert in self.book.adverts.items():
            if node != self.book.me and not self.book.disregarded(node, advert):
                self.views.passive.offer(node, lambda advert=advert: self.groups(advert))  # type: ignore[misc]

    def lost(self, node: NodeId) -> bool:
        """A node's advert has ended. Whether it was one of those to choose from; a link to it stays what it is."""
        if node not in self.linked:
            self.views.chosen.pop(node, None)
        return self.views.passive.discard(node)

    def ended(self, peer: NodeId, now: float) -> Held:
        """The link to `peer` is over; what it was."""
        self.leaving.discard(peer)
        return self.linked.pop(peer, Held(now))

    def _cooled(self, standing: Mapping[NodeId, Standing], now: float) -> list[NodeId]:
        """Direct links that nobody has used for long."""
        closed: list[NodeId] = []
        for peer in self.heat.cold(now):
            link = standing.get(peer)
            if link is not None and link.streams:
                continue
            self.heat.cool(peer)
            if link is not None and link.spare and peer not in self._kept():
                closed.append(peer)
        return closed

    def _exchanged(self, standing: Mapping[NodeId, Standing]) -> list[NodeId]:
        named = self._named()
        anchors = [peer for peer in self.views.chosen if peer in self.linked][:ANCHORS]
        kept = {*named, *anchors}
        found = worst((standing[peer] for peer in self.views.chosen if peer in standing and peer not in kept), self.rng)
        return [found] if found is not None else []

    def _too_many(self, standing: Mapping[NodeId, Standing]) -> list[NodeId]:
        kept = self._kept()
        others = [one for peer, one in standing.items() if peer not in kept and peer not in self.heat]
        return excess(others, self.section.accepted_links)

    def _standing(self, peer: NodeId, link: Condition, now: float) -> Standing:
        advert = self.book.adverts.get(peer)
        crowded = self.views.crowding(peer) if peer in self.views.chosen else 0
        return Standing(
            peer,
            now - self.linked[peer].since,
            len(advert.neighbours) if advert is not None else None,
            link.streams,
            link.rtt_s,
            advert is not None and bool(advert.addresses),
            crowded,
        )

    def _kept(self) -> set[NodeId]:
        return {*self.views.chosen, *self._named()}

    def _named(self) -> set[NodeId]:
        return {peer for key in self.book.of_kind(Kind.NAMED) if (peer := self.book.peer(key)) is not None}

    def _my_turn(self) -> bool:
        """By lot, whatever the mesh has grown to meanwhile: as many exchanges in all as `swap_nodes` would make."""
        return self.rng.random() * len(self.book.adverts) < self.section.swap_nodes

    def _pause_s(self) -> float:
        return self.section.swap_s * self.rng.uniform(0.8, 1.2)
