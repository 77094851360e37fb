"""What news of other nodes means for whom to dial: adverts come, change and end. Pure.

In a large mesh nearly all of it means nothing, and costs no more than noticing that. Not for links (overlay.py,
neighbourhood.py).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.gossip.book import Book
from meshnode.gossip.neighbourhood import Neighbourhood
from meshnode.gossip.targets import MOST_DEAD, SOON, Kind, Target
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

MOMENT_S = 0.05
"""Jitter before news is acted on: two nodes that learn of each other at once need not both dial."""


@dataclass(frozen=True, slots=True)
class Learning:
    """Writes into the book what to dial."""

    rng: random.Random
    book: Book
    near: Neighbourhood

    def learn(self, said: Mapping[NodeId, Advert | None], now: float) -> bool:
        """What these nodes say now; whether any of it matters to this one."""
        # They come as a set of ids: in its order, which hashes give, equal runs would differ.
        said = {node: said[node] for node in sorted(said)}
        before = {node: self.book.learn(node, advert) for node, advert in said.items()}
        if not self.book.dial_learned:
            return self.book.me in said
        counts = switched = self.near.views.resize(len(self.book.adverts))
        if switched:
            self.near.switch(now)
            said = {**said, **({} if self.near.views.wide else self.book.adverts)}
        for node, advert in said.items():
            counts |= node == self.book.me or self._learn(node, advert, before.get(node), now)
        if switched and self.near.views.wide:
            self.near.refill()
        for key in self.book.of_kind(Kind.HINT):
            if (peer := self.book.peer(key)) is not None and self.knows(peer):
                self.book.drop(key)
        return counts

    def knows(self, peer: NodeId) -> bool:
        """Whether what is heard of `peer` elsewhere adds nothing."""
        return peer in self.book.targets or (self.near.views.wide and peer in self.book.adverts)

    def want(self, node: NodeId, advert: Advert, now: float) -> None:
        """Dial `node` where it says it is, as long as it is wanted."""
        wanted = self.near.wants(node)
        soon = now + self.rng.uniform(0.0, MOMENT_S)
        target = self.book.targets.setdefault(node, Target(Kind.KNOWN, (), soon))
        told = self.book.told(advert)
        if target.kind is not Kind.KNOWN or target.told != told or advert.incarnation > target.order[0]:
            target.found(soon)
        target.kind, target.told, target.near = Kind.KNOWN, told, advert.host == self.book.host
        target.order, target.until, target.once = advert.order, None, target.once and not wanted
        if not wanted and not target.once:
            self.book.drop(node)

    def once(self, peer: NodeId, now: float) -> Target | None:
        """The target for a peer that is to be dialled now, whether or not it is wanted; None when nobody knows it."""
        advert = self.book.adverts.get(peer) if self.book.dial_learned else None
        targets = self.book.targets
        if peer not in targets and advert is not None and not self.book.disregarded(peer, advert):
            told, near = self.book.told(advert), advert.host == self.book.host
            targets[peer] = Target(Kind.KNOWN, told, now, near=near, order=advert.order, once=True)
        return targets.get(peer)

    def _learn(self, node: NodeId, advert: Advert | None, before: Advert | None, now: float) -> bool:
        if advert is None:
            return self._lose(node, before, now)
        if self.book.disregarded(node, advert):
            self.near.views.forget(node)
            self.book.drop(node)
            return True
        if before is not None and advert.incarnation > before.incarnation:
            for key in self.book.keys_of(node):
                self.book.targets[key].found(now + self.rng.uniform(0.0, MOMENT_S))
        matters = self.near.offer(node, advert)
        if self.near.views.wide and node not in self.book.targets:
            return matters
        self.want(node, advert, now)
        return True

    def _lose(self, node: NodeId, before: Advert | None, now: float) -> bool:
        """A node's advert has ended, unsaid. One that might have been chosen is tried for a while."""
        targets = self.book.targets
        if self.near.lost(node) and node not in targets and before is not None:
            near = before.host == self.book.host
            targets[node] = Target(Kind.KNOWN, self.book.told(before), now, SOON, near=near, order=before.order)
        target = targets.get(node)
        if target is None or target.kind is not Kind.KNOWN:
            return target is not None
        if target.once or not self.book.where(node):
            self.book.drop(node)
            return True
        target.lost(self.rng, now)
        dead = self.book.of_kind(Kind.DEAD)
        if len(dead) > MOST_DEAD:
            self.book.drop(min(dead, key=lambda key: targets[key].until or now))
        return True
