"""One membership lived: links, gossip, notices, renewal, and the view that the rest of the node reads.

Built anew when the node joins another mesh; a change of papers within one is told by `refresh` and cuts nothing. Not
for jobs: their streams go to the callable handed in. Counterpart: every other member.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import msgspec
import trio

from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkError, ProtocolViolation, SecretFileError
from meshnode.gossip.machine import Gossip
from meshnode.gossip.overlay import Overlay
from meshnode.identity import Notice, Peer, Revocation, Role, Rotation
from meshnode.mesh import addresses, dial_me, notices, opening, renewal, vouching
from meshnode.mesh.dial_me import DialMe
from meshnode.mesh.doorway import Doorway
from meshnode.mesh.exchange import refuse
from meshnode.mesh.gossiper import PATH, Gossiper, Verdicts
from meshnode.mesh.members import Members
from meshnode.mesh.notices import Board
from meshnode.mesh.papers import Papers
from meshnode.mesh.peers import Connect, Peers
from meshnode.mesh.renewal import Renewal
from meshnode.mesh.splice import Ground
from meshnode.mesh.tunnels import Tunnels
from meshnode.mesh.work import Door, Work
from meshnode.model.advert import ADVERT_CONTEXT, Advert, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture
from meshnode.model.view import View
from meshnode.net import Authenticated, Link, LinkStream, Rekeying, Traffic
from meshnode.observe import log
from meshnode.routing.path import MOST_HOPS, Paths

logger = log.get("mesh")

OWN_PATHS = "/meshnode/"
"""Streams under it are the mesh's own; everything else is a job."""

RTT_CLASSES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Advertised round trips are rounded up to one of these, so that jitter is not news."""

UNMEASURED_S = 0.1
"""Round trip of a link whose first ping is under way: not the best until it is known."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who this node is in one mesh. `connect` dials by `door`; `incarnation` is larger than at every earlier start,
    `keep` makes a later one durable; `remembered` are peers' addresses of earlier runs, the likeliest first."""

    papers: Papers
    door: Doorway
    connect: Connect
    incarnation: int
    remembered: Mapping[NodeId, Sequence[str]]
    keep: Callable[[int], None]


class Mesh:
    """`run` lives the membership until cancelled; `view()` is what is known now; `describe` says what is new here.

    `doors` serve streams of peers by path, beside those of gossip, notices and renewal; `work` gets the jobs.
    """

    def __init__(
        self,
        standing: Standing,
        section: MeshSection,
        gossip: GossipSection,
        work: Work,
        rng: Random,
        doors: Mapping[str, Door] | None = None,
    ) -> None:
        papers = standing.papers
        self.me: NodeId = papers.key.id
        self.host = addresses.host_tag(papers.mesh.id)
        self._standing = standing
        self._papers = papers
        self._serve = work.serve
        self.traffic, self.sealed_traffic = Traffic(), Traffic()
        self.gossip = machine = Gossip(self.me, gossip, papers.judge, self._sign, rng, standing.incarnation, work.facts)
        verdicts = Verdicts(
            dead=lambda peer, why: self.peers.drop(peer, why),
            convicted=lambda node, _: self.peers.breached(node, "it signed two adverts of one order"),
            reported=work.reported,
            suspects=self._renew,
            counted=self._counted,
        )
        self.gossiper = Gossiper(
            machine,
            self._adverts_changed,
            lambda peer, why: self.peers.breached(peer, why),
            verdicts,
            lambda link: link.heard_at,
        )
        overlay = Overlay(self.me, self.host, section, rng, standing.remembered, self._inviter)
        self.tunnels = Tunnels(self._ground(overlay), section, standing.door, self._build_sealed, papers.barred)
        self._dial_me = DialMe(self.me, self.link, self._next_hop, lambda peer: self.peers.asked(peer))
        self.peers = Peers(
            overlay, standing.connect, self._build, self._carry, self._links_changed, ask=self._dial_me.ask
        )
        self._board = Board(papers, self._applied, lambda: self.peers.links.values(), self.peers.drop)
        self._renewal = Renewal(papers, lambda: self.peers.links.values(), self.refresh, rng)
        self._doors: dict[str, Door] = {
            **(doors or {}),
            **({vouching.PATH: work.vouches} if work.vouches is not None else {}),
            PATH: self.gossiper.receive,
            notices.PATH: self._board.receive,
            renewal.PATH: self._renewal.serve,
            dial_me.PATH: self._dial_me.answer,
            opening.PATH: self.tunnels.serve,
        }
        self._paths = Paths(0.0)
        self._members = Members(papers)
        self._section = section
        self._described: Advert | None = None
        self._told: Advert | None = None
        self._vouched: tuple[Mapping[NodeId, Posture], Mapping[NodeId, frozenset[bytes]]] = ({}, {})
        self._version = 0
        self._view: View | None = None
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, whenever the view changes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep links, gossip and papers going. Returns only by cancellation."""
        notices.say_if_out(self._papers)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.peers.run)
            self.peers.known(self.gossiper.adverts())
            await nursery.start(self.gossiper.run)
            await nursery.start(self._papers.run)
            await nursery.start(self.tunnels.run)
            nursery.start_soon(self._renewal.run)
            nursery.start_soon(self._follow_round_trips)
            task_status.started()

    def view(self) -> View:
        """What is known now; the same object until something changes."""
        if self._view is None:
            # Whoever is suspected gets nothing new until it has shown that it lives.
            doubted = self.gossiper.suspected
            links = {
                peer: _round_trip(link)
                for peer, link in self.peers.links.items()
                if peer not in doubted and not link.draining
            }
            adverts = self._members.believed(self.gossiper.adverts())
            if self._told is not None:
                # What is true here is true at once, though others hear of it a settling time later.
                adverts[self.me] = self._told
            pinned = frozenset(map(NodeId, self._papers.trust.pins.pinned))
            self._view = View(self.me, adverts, links, self._version, *self._vouched, pinned=pinned)
        return self._view

    def vouch(self, postures: Mapping[NodeId, Posture], weights: Mapping[NodeId, frozenset[bytes]]) -> None:
        """What was verified of nodes: views have it from now on."""
        if (postures, weights) != self._vouched:
            self._vouched = (postures, weights)
            self._renew()

    @property
    def link_keys(self) -> tuple[bytes, ...]:
        """This node's X25519 keys that links may have been made with."""
        return self._standing.door.link_keys

    def link(self, peer: NodeId) -> Link | None:
        """The live link to a neighbour."""
        return self.peers.link(peer)

    def member(self, node: NodeId) -> Peer | None:
        """Who a node is by its certificate, as its advert or its link shows it; None for one not known."""
        self.view()
        found, link = self._members.get(node), self.link(node)
        if found is None and link is not None and self._papers.holds(link.membership):
            return link.membership  # type: ignore[no-any-return]
        return found

    def members(self) -> dict[NodeId, Peer]:
        """All that are known but this node."""
        self.view()
        linked = {peer: link.membership for peer, link in self.peers.links.items()}
        return {node: peer for node, peer in {**linked, **self._members.named()}.items() if node != self.me}

    def roles(self, node: NodeId) -> frozenset[str]:
        """What a node may do: none for one that is not known as a member."""
        if node == self.me:
            return frozenset(self._papers.roles)
        member = self.member(node)
        return frozenset(member.roles) if member is not None else frozenset()

    def describe(self, advert: Advert) -> None:
        """Say what is new of this node. Identity, mesh, host, chain, owner and neighbours are filled in here."""
        self._described = advert
        self._tell()

    def refresh(self) -> None:
        """The papers changed: others are judged anew, links of those believed no more end, and adverts carry the
        present chain."""
        self._board.review()
        self._judge_anew()

    def post(self, notice: Notice) -> None:
        """Make a notice of this node count, here and everywhere. Raises CertificateRefused."""
        self._board.post(notice)

    def forget(self, node: NodeId) -> bool:
        """Drop a node's advert until it says something new. Whether there was one."""
        known = node in self.gossiper.adverts()
        self.gossiper.forget(node)
        self.peers.forget(node)
        return known

    def leave(self) -> None:
        """Tell neighbours to open no more streams, then everybody that this node is gone: nobody who still believes a
        link hears that there is nothing behind it."""
        for link in self.peers.links.values():
            link.goaway()
        self.tunnels.goaway()
        self.gossiper.leave()

    async def accept(self, link: Link, stream: LinkStream) -> None:
        """Take one stream that a peer opened: the mesh's own go to their door, everything else is a job."""
        path = (await stream.head()).get(":path", "")
        door = self._doors.get(path)
        if door is None and path.startswith(OWN_PATHS):
            await refuse(stream, "this node knows no such question: is it another version of meshnode?")
        elif door is None:
            await self._serve(link, stream)
        else:
            try:
                await door(link, stream)
            except ProtocolViolation as error:
                self.peers.breached(link.peer, str(error))
            except LinkError as error:
                logger.debug("a neighbour's stream ended", peer=link.peer.short, path=path, reason=str(error))

    def _build(self, found: Authenticated) -> Link:
        return self._link_of(found, self.accept, self.traffic)

    def _build_sealed(self, found: Authenticated) -> Link:
        return self._link_of(found, self._accept_sealed, self.sealed_traffic)

    def _link_of(self, found: Authenticated, accept: Door, traffic: Traffic) -> Link:
        door = self._standing.door
        rekeying = Rekeying(door.initiator, door.responder, door.check)
        link = Link(found, accept, self._section, rekeying, self._shook_hands)
        link.traffic = traffic
        traffic.made += 1
        return link

    def _shook_hands(self, link: Link) -> None:
        """Anew, on a link that runs: the peer's roles may be others now."""
        self._renew()
        self._board.tell_again(link)

    async def _accept_sealed(self, link: Link, stream: LinkStream) -> None:
        """Jobs, and who is asked for evidence: whoever is at the other end of a tunnel is no neighbour."""
        path = (await stream.head()).get(":path", "")
        if path == vouching.PATH:
            await self.accept(link, stream)
        elif path.startswith(OWN_PATHS):
            await refuse(stream, "a tunnel is for jobs")
        else:
            await self._serve(link, stream)

    def _ground(self, overlay: Overlay) -> Ground:
        def unwelcome(node: NodeId) -> str | None:
            if self._papers.expelled is not None:
                return f"this node links with nobody: {self._papers.expelled}"
            shut_out = overlay.shut_out(node, trio.current_time()) is not None
            return f"{node.short} broke the protocol and is shut out" if shut_out else None

        def leaving(node: NodeId) -> bool:
            advert = self.view().adverts.get(node)
            return advert is not None and advert.draining

        return Ground(self.me, self.link, self._next_hop, self.roles, self._relays, unwelcome, leaving)

    def _relays(self) -> str | None:
        """Why this node passes on nothing for others now."""
        if not self._section.relay or Role.RELAY not in self._papers.roles:
            return f"{self.me.short} does not relay"
        if self._described is not None and self._described.draining:
            return f"{self.me.short} is shutting down"
        return None

    async def _carry(self, link: Link) -> None:
        """What runs beside each link for its life. Notices first: they say who is a member."""
        async with trio.open_nursery() as nursery:

            async def gossip() -> None:
                await self.gossiper.carry(link)
                nursery.cancel_scope.cancel()

            nursery.start_soon(gossip)
            self._renewal.linked()
            await self._board.carry(link)
            nursery.cancel_scope.cancel()

    def _applied(self, statement: Revocation | Rotation) -> None:
        if isinstance(statement, Revocation):
            self._judge_anew()

    def _judge_anew(self) -> None:
        for node, advert in list(self.gossiper.adverts().items()):
            if node != self.me and self._members.barred(advert):
                self.gossiper.forget(node)
        self.gossiper.reconsider()
        self._renew()
        self._tell()
        self.tunnels.review()

    def _next_hop(self, target: NodeId, without: Collection[NodeId], hops_left: int = MOST_HOPS) -> NodeId | None:
        return self._paths.next_hop(self.view(), target, without, hops_left)

    def _inviter(self, advert: Advert) -> bytes:
        """Who brought a node into the mesh."""
        member = self.member(advert.node)
        return bytes(member.invited_by) if member is not None and member.invited_by is not None else b""

    def _counted(self, incarnation: int) -> None:
        try:
            self._standing.keep(incarnation)
        except SecretFileError as error:
            # Said all the same: after a restart others show again how far it had counted.
            logger.error("this node's count of its starts could not be kept", reason=str(error))

    def _adverts_changed(self, ids: Iterable[NodeId]) -> None:
        self._renew()
        self.peers.changed({node: self.gossiper.advert(node) for node in ids})
        if self.tunnels.links:
            # A relay may be leaving, which waits for them.
            self.tunnels.sweep()

    def _links_changed(self) -> None:
        self._renew()
        self._tell()

    async def _follow_round_trips(self) -> None:
        """Links get their round trips by pinging; a change of class is news for everybody's paths. A membership that
        ends is no event either."""
        told: dict[NodeId, int] = {}
        while True:
            await trio.sleep(1.0)
            classes = {peer: rtt_class(_round_trip(link)) for peer, link in self.peers.links.items()}
            if classes != told:
                told = classes
                self._links_changed()
            elif self._members.outdated():
                self._renew()

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
        own = self._papers.certificate
        advert = msgspec.structs.replace(
            self._described,
            owner=own.owner if own is not None else self._described.owner,
            id=bytes(self.me),
            mesh=self._papers.mesh.id,
            host=self.host,
            neighbours=neighbours,
            chain=self._papers.packed_chain,
        )
        self._told = advert
        self._renew()
        self.gossiper.describe(advert)

    def _sign(self, body: bytes) -> bytes:
        return self._papers.key.sign(ADVERT_CONTEXT, body)


def _round_trip(link: Link) -> float:
    return link.rtt_s if link.rtt_s is not None else UNMEASURED_S


def rtt_class(rtt_s: float) -> int:
    """A round trip in milliseconds, rounded up to its class."""
    return next((limit for limit in RTT_CLASSES_MS if rtt_s * 1000 <= limit), RTT_CLASSES_MS[-1])
