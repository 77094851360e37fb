"""What the overlay knows of others: every advert, what to dial, who was found where, who is to be forgotten. Pure.

Not for deciding anything (overlay.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshnode.gossip.candidates import Candidates, is_loopback, well_formed
from meshnode.gossip.targets import Key, Kind, Target
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

MOST_FORGOTTEN = 1024
MOST_REACHED = 64
"""Peers worth writing down: any one that answers is enough, gossip brings the others."""


@dataclass(slots=True)
class Book:
    """`targets` are few, whatever the size of the mesh; `behind` says who answered at a named or heard address."""

    me: NodeId
    host: bytes
    dial_learned: bool
    targets: dict[Key, Target] = field(default_factory=dict)
    behind: dict[str, NodeId] = field(default_factory=dict)
    adverts: dict[NodeId, Advert] = field(default_factory=dict)
    candidates: Candidates = field(default_factory=Candidates)
    _forgotten: dict[NodeId, tuple[int, int]] = field(default_factory=dict)

    def news(self, adverts: Mapping[NodeId, Advert]) -> dict[NodeId, Advert | None]:
        """In what a whole table differs from what is known. O(nodes), and no more than a comparison each."""
        known = self.adverts
        said: dict[NodeId, Advert | None] = {n: advert for n, advert in adverts.items() if known.get(n) is not advert}
        said.update((node, None) for node in known if node not in adverts)
        return said

    def learn(self, node: NodeId, advert: Advert | None) -> Advert | None:
        """Keep what a node says now; returns what it said before. None and a tombstone end it."""
        before = self.adverts.pop(node, None)
        if advert is not None and not advert.gone:
            self.adverts[node] = advert
        return before

    def of_kind(self, kind: Kind) -> list[Key]:
        """Targets of one kind, the oldest first."""
        return [key for key, target in self.targets.items() if target.kind is kind]

    def keys_of(self, peer: NodeId) -> list[Key]:
        """What to dial for one peer."""
        return [key for key in (peer, *self.behind) if key in self.targets and self.peer(key) == peer]

    def peer(self, key: Key) -> NodeId | None:
        """Who is expected at a target, as far as that is known."""
        return key if isinstance(key, NodeId) else self.behind.get(key)

    def addresses(self, key: Key) -> tuple[str, ...]:
        """Where to dial a target, the likeliest first."""
        return self.where(key) if isinstance(key, NodeId) else (key,)

    def where(self, peer: NodeId) -> tuple[str, ...]:
        """Where to dial a peer, the likeliest first."""
        target, advert = self.targets.get(peer), self.adverts.get(peer)
        if target is not None:
            stale = target.failures > 0
            return self.candidates.of(peer, target.told, near=target.near, stale=stale)
        told = self.told(advert) if advert is not None and self.dial_learned else ()
        return self.candidates.of(peer, told, near=advert is not None and advert.host == self.host)

    def told(self, advert: Advert) -> tuple[str, ...]:
        """The addresses of an advert that are worth a try here."""
        near = advert.host == self.host
        return tuple(a for a in advert.addresses if well_formed(a) and (near or not is_loopback(a)))

    def tells_of(self, address: str) -> bool:
        """Whether a node is known to be there. O(nodes)."""
        if any(address in target.told for target in self.targets.values()):
            return True
        return any(address in advert.addresses for advert in self.adverts.values())

    def reached(self, first: Iterator[NodeId]) -> tuple[tuple[NodeId, tuple[str, ...]], ...]:
        """Peers worth remembering, `first` before others, each with its addresses, the one that worked last first."""
        hoped = [key for key in self.of_kind(Kind.HOPED) if isinstance(key, NodeId)]
        found = ((peer, self.where(peer)) for peer in dict.fromkeys((*first, *self.candidates, *hoped)))
        return tuple((peer, where) for peer, where in found if where)[:MOST_REACHED]

    def drop(self, key: Key) -> None:
        """Dial it no more."""
        self.targets.pop(key, None)
        if isinstance(key, str):
            self.behind.pop(key, None)

    def forget(self, peer: NodeId) -> None:
        """Nothing of `peer` is kept but what it said last, so that its saying it again is no news."""
        advert, target = self.adverts.get(peer), self.targets.get(peer)
        said = [one.order for one in (advert, target) if one is not None]
        if said:
            while len(self._forgotten) >= MOST_FORGOTTEN:
                del self._forgotten[next(iter(self._forgotten))]
            self._forgotten[peer] = max(said)
        self.candidates.forget(peer)
        for key in self.keys_of(peer):
            if self.targets[key].kind is not Kind.NAMED:
                self.drop(key)

    def disregarded(self, node: NodeId, advert: Advert) -> bool:
        """Whether it has left, or was forgotten and has said nothing since."""
        if not advert.gone and advert.order > self._forgotten.get(node, advert.order):
            del self._forgotten[node]
        return advert.gone or node in self._forgotten
