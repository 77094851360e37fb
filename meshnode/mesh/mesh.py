"""One membership lived: listener, links, gossip, invites, and the view that the rest of the node reads.

Built anew when the node joins another mesh. Not for jobs: their streams go to the callable handed in. Counterpart:
every other member.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import msgspec
import trio

from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkError
from meshnode.gossip.events import Verdict
from meshnode.gossip.machine import Gossip
from meshnode.gossip.overlay import Overlay
from meshnode.identity import NodeKey, verify
from meshnode.mesh import addresses
from meshnode.mesh.gossiper import PATH, Gossiper
from meshnode.mesh.peers import Connect, Peers
from meshnode.model.advert import ADVERT_CONTEXT, Advert, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Authenticated, Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")

RTT_CLASSES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Advertised round trips are rounded up to one of these, so that jitter is not news."""

UNMEASURED_S = 0.1
"""Round trip of a link whose first ping is under way: not the best until it is known."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who this node is in one mesh. `mesh_id` has 32 bytes; `incarnation` is larger than at every earlier start."""

    key: NodeKey
    mesh_id: bytes
    incarnation: int


class Mesh:
    """`run` lives the membership until cancelled; `view()` is what is known now; `describe` says what is new here."""

    def __init__(
        self,
        standing: Standing,
        section: MeshSection,
        gossip: GossipSection,
        connect: Connect,
        serve: Callable[[Link, LinkStream], Awaitable[None]],
        rng: Random,
    ) -> None:
        self.me: NodeId = standing.key.id
        self.host = addresses.host_tag(standing.mesh_id)
        self._standing = standing
        self._serve = serve
        machine = Gossip(self.me, gossip, _judge, self._sign, rng, standing.incarnation)
        self._gossiper = Gossiper(machine, self._adverts_changed, self._breached)
        overlay = Overlay(self.me, self.host, section, rng)
        self.peers = Peers(overlay, connect, self._build, self._gossiper.carry, self._links_changed)
        self._section = section
        self._described: Advert | None = None
        self._told: Advert | None = None
        self._version = 0
        self._view: View | None = None
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, whenever the view changes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep links and gossip going. Returns only by cancellation."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.peers.run)
            self.peers.known(self._gossiper.adverts())
            await nursery.start(self._gossiper.run)
            nursery.start_soon(self._follow_round_trips)
            task_status.started()

    def view(self) -> View:
        """What is known now; the same object until something changes."""
        if self._view is None:
            links = {peer: _round_trip(link) for peer, link in self.peers.links.items()}
            adverts = dict(self._gossiper.adverts())
            if self._told is not None:
                # What is true here is true at once, though others hear of it a settling time later.
                adverts[self.me] = self._told
            self._view = View(self.me, adverts, links, self._version)
        return self._view

    def link(self, peer: NodeId) -> Link | None:
        """The live link to a neighbour."""
        return self.peers.link(peer)

    def describe(self, advert: Advert) -> None:
        """Say what is new of this node. Identity, mesh, host and neighbours are filled in here."""
        self._described = advert
        self._tell()

    def leave(self) -> None:
        """Tell everybody that this node is going, and neighbours to open no more streams."""
        self._gossiper.leave()
        for link in self.peers.links.values():
            link.goaway()

    async def accept(self, link: Link, stream: LinkStream) -> None:
        """Take one stream that a peer opened: gossip is read here, everything else is a job."""
        head = await stream.head()
        if head.get(":path") == PATH:
            try:
                await self._gossiper.receive(link, stream)
            except LinkError as error:
                logger.debug("a neighbour's gossip ended", peer=link.peer.short, reason=str(error))
        else:
            await self._serve(link, stream)

    def _build(self, found: Authenticated) -> Link:
        return Link(found, self.accept, self._section)

    def _breached(self, peer: NodeId, reason: str) -> None:
        logger.warning("a neighbour's gossip breaks the rules", peer=peer.short, reason=reason)

    def _adverts_changed(self) -> None:
        self._renew()
        self.peers.known(self._gossiper.adverts())

    def _links_changed(self) -> None:
        self._renew()
        self._tell()

    async def _follow_round_trips(self) -> None:
        """Links get their round trips by pinging; a change of class is news for everybody's paths."""
        told: dict[NodeId, int] = {}
        while True:
            await trio.sleep(1.0)
            classes = {peer: rtt_class(_round_trip(link)) for peer, link in self.peers.links.items()}
            if classes != told:
                told = classes
                self._links_changed()

    def _renew(self) -> None:
        self._version += 1
        self._view = None
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def _tell(self) -> None:
        if self._described is None:
            return
        neighbours = tuple(
            Neighbour(bytes(peer), rtt_class(_round_trip(link))) for peer, link in sorted(self.peers.links.items())
        )
        advert = msgspec.structs.replace(
            self._described,
            id=bytes(self.me),
            mesh=self._standing.mesh_id,
            host=self.host,
            neighbours=neighbours,
        )
        self._told = advert
        self._renew()
        self._gossiper.describe(advert)

    def _sign(self, body: bytes) -> bytes:
        return self._standing.key.sign(ADVERT_CONTEXT, body)


def _round_trip(link: Link) -> float:
    return link.rtt_s if link.rtt_s is not None else UNMEASURED_S


def rtt_class(rtt_s: float) -> int:
    """A round trip in milliseconds, rounded up to its class."""
    return next((limit for limit in RTT_CLASSES_MS if rtt_s * 1000 <= limit), RTT_CLASSES_MS[-1])


def _judge(advert: Advert, body: bytes, signature: bytes) -> Verdict:
    return Verdict.GOOD if verify(advert.node, ADVERT_CONTEXT, body, signature) else Verdict.FORGED
