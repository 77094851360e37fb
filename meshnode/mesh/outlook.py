"""What one node sees of its mesh: the view that the rest of the node reads, made anew when something has changed.

Joins what adverts say, what members' certificates allow, which links are up, and what was verified. Not for deciding
anything by it (routing), nor for what this node says of itself (mesh.py). Counterpart: gossiper.py and peers.py, whose
news it is told by `renew`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import trio

from meshnode.identity import Peer
from meshnode.mesh.gossiper import Gossiper
from meshnode.mesh.members import Members
from meshnode.mesh.papers import Papers
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture
from meshnode.model.view import View
from meshnode.net import Link
from meshnode.routing.path import Paths
from meshnode.routing.tree import MOST_HOPS

RTT_CLASSES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Advertised round trips are rounded up to one of these, so that jitter is not news."""

UNMEASURED_S = 0.1
"""Round trip of a link whose first ping is under way: not the best until it is known."""


class Outlook:
    """`view()` is what is known now. `links()` gives the live links by peer; `told` is this node's own advert."""

    def __init__(
        self, me: NodeId, papers: Papers, gossiper: Gossiper, links: Callable[[], Mapping[NodeId, Link]]
    ) -> None:
        self._me = me
        self._papers = papers
        self._gossiper = gossiper
        self._links = links
        self._members = Members(papers)
        self._paths = Paths(0.0)
        self._vouched: tuple[Mapping[NodeId, Posture], Mapping[NodeId, frozenset[bytes]]] = ({}, {})
        self._version = 0
        self._view: View | None = None
        self.told: Advert | None = None
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, whenever the view changes."""

    def view(self) -> View:
        """What is known now; the same object until something changes."""
        if self._view is None:
            # Whoever is suspected gets nothing new until it has shown that it lives.
            doubted = self._gossiper.suspected
            links = {
                peer: round_trip(link)
                for peer, link in self._links().items()
                if peer not in doubted and not link.draining
            }
            adverts = self._members.believed(self._gossiper.adverts())
            if self.told is not None:
                # What is true here is true at once, though others hear of it a settling time later.
                adverts[self._me] = self.told
            pinned = frozenset(map(NodeId, self._papers.trust.pins.pinned))
            self._view = View(self._me, adverts, links, self._version, *self._vouched, pinned=pinned)
        return self._view

    def renew(self) -> None:
        """Something has changed: the next view is another."""
        self._version += 1
        self._view = None
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def vouch(self, postures: Mapping[NodeId, Posture], weights: Mapping[NodeId, frozenset[bytes]]) -> None:
        """What was verified of nodes: views have it from now on."""
        if (postures, weights) != self._vouched:
            self._vouched = (postures, weights)
            self.renew()

    def outdated(self) -> bool:
        """Whether the membership of somebody in the view has ended since."""
        return self._members.outdated()

    def barred(self, advert: Advert) -> bool:
        """Whether this node is believed no more, however long its certificate lasts."""
        return self._members.barred(advert)

    def member(self, node: NodeId) -> Peer | None:
        """Who a node is by its certificate, as its advert or its link shows it; None for one not known."""
        self.view()
        found, link = self._members.get(node), self._links().get(node)
        if found is None and link is not None and self._papers.holds(link.membership):
            return link.membership  # type: ignore[no-any-return]
        return found

    def members(self) -> dict[NodeId, Peer]:
        """All that are known but this node."""
        self.view()
        linked = {peer: link.membership for peer, link in self._links().items()}
        return {node: peer for node, peer in {**linked, **self._members.named()}.items() if node != self._me}

    def roles(self, node: NodeId) -> frozenset[str]:
        """What a node may do: none for one that is not known as a member."""
        if node == self._me:
            return frozenset(self._papers.roles)
        member = self.member(node)
        return frozenset(member.roles) if member is not None else frozenset()

    def inviter(self, advert: Advert) -> bytes:
        """Who brought a node into the mesh, a member's id or the mesh's for the root; b"" where nobody knows."""
        member = self.member(advert.node)
        return bytes(member.invited_by) if member is not None and member.invited_by is not None else b""

    def next_hop(self, target: NodeId, without: Collection[NodeId], hops_left: int = MOST_HOPS) -> NodeId | None:
        """The neighbour on the way to `target` that goes round `without`."""
        return self._paths.next_hop(self.view(), target, without, hops_left)


def round_trip(link: Link) -> float:
    """Of a link, measured or assumed."""
    return link.rtt_s if link.rtt_s is not None else UNMEASURED_S


def rtt_class(rtt_s: float) -> int:
    """A round trip in milliseconds, rounded up to its class."""
    return next((limit for limit in RTT_CLASSES_MS if rtt_s * 1000 <= limit), RTT_CLASSES_MS[-1])
