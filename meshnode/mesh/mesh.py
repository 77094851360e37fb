"""One membership lived: links, gossip, notices, renewal, and the view that the rest of the node reads.

Built anew when the node joins another mesh; a change of papers within one is told by `refresh` and cuts nothing. Not
for jobs: their streams go to the callable handed in. Counterpart: every other member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import msgspec
import trio

from meshnode.config.gossip import GossipSection
from meshnode.config.mesh import MeshSection
from meshnode.errors import SecretFileError
from meshnode.gossip.machine import Gossip
from meshnode.gossip.overlay import Overlay
from meshnode.identity import Notice, Revocation, Role, Rotation
from meshnode.mesh import addresses, dial_me, notices, opening, renewal, vouching
from meshnode.mesh.dial_me import DialMe
from meshnode.mesh.dials import Connect
from meshnode.mesh.doorway import Doorway
from meshnode.mesh.gossiper import PATH, Gossiper, Verdicts
from meshnode.mesh.notices import Board
from meshnode.mesh.outlook import Outlook, round_trip, rtt_class
from meshnode.mesh.papers import Papers
from meshnode.mesh.peers import Peers
from meshnode.mesh.reception import Reception
from meshnode.mesh.renewal import Renewal
from meshnode.mesh.splice import Ground
from meshnode.mesh.tunnels import Tunnels
from meshnode.mesh.work import Door, Work
from meshnode.model.advert import ADVERT_CONTEXT, Advert, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Authenticated, Link, Rekeying, Traffic
from meshnode.observe import log

logger = log.get("mesh")


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
        self._section = section
        self._described: Advert | None = None
        self.traffic, self.sealed_traffic = Traffic(), Traffic()
        self.gossip = Gossip(self.me, gossip, papers.judge, self._sign, rng, standing.incarnation, work.facts)
        self.gossiper = self._gossiper(work)
        self.outlook = Outlook(self.me, papers, self.gossiper, lambda: self.peers.links)
        overlay = Overlay(self.me, self.host, section, rng, standing.remembered, self.outlook.inviter)
        self.tunnels = Tunnels(self._ground(overlay), section, standing.door, self._build_sealed, papers.barred)
        self._dial_me = DialMe(self.me, self.link, self.outlook.next_hop, lambda peer: self.peers.asked(peer))
        self.peers = Peers(
            overlay, standing.connect, self._build, self._carry, self._links_changed, ask=self._dial_me.ask
        )
        self._board = Board(papers, self._applied, lambda: self.peers.links.values(), self.peers.drop)
        self._renewal = Renewal(papers, lambda: self.peers.links.values(), self.refresh, rng)
        evidence = {vouching.PATH: work.vouches} if work.vouches is not None else {}
        self._reception = Reception({**(doors or {}), **evidence, **self._own_doors()}, work.serve, self.peers.breached)

    def _gossiper(self, work: Work) -> Gossiper:
        verdicts = Verdicts(
            dead=lambda peer, why: self.peers.drop(peer, why),
            convicted=lambda node, _: self.peers.breached(node, "it signed two adverts of one order"),
            reported=work.reported,
            suspects=lambda: self.outlook.renew(),
            counted=self._counted,
        )
        return Gossiper(
            self.gossip,
            self._adverts_changed,
            lambda peer, why: self.peers.breached(peer, why),
            verdicts,
            lambda link: link.heard_at,
        )

    def _own_doors(self) -> dict[str, Door]:
        return {
            PATH: self.gossiper.receive,
            notices.PATH: self._board.receive,
            renewal.PATH: self._renewal.serve,
            dial_me.PATH: self._dial_me.answer,
            opening.PATH: self.tunnels.serve,
        }

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

    @property
    def changed(self) -> trio.Event:
        """Set, and replaced by a fresh one, whenever the view changes."""
        return self.outlook.changed

    def view(self) -> View:
        """What is known now; the same object until something changes."""
        return self.outlook.view()

    @property
    def link_keys(self) -> tuple[bytes, ...]:
        """This node's X25519 keys that links may have been made with."""
        return self._standing.door.link_keys

    def link(self, peer: NodeId) -> Link | None:
        """The live link to a neighbour."""
        return self.peers.link(peer)

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

    def _build(self, found: Authenticated) -> Link:
        return self._link_of(found, self._reception.neighbour, self.traffic)

    def _build_sealed(self, found: Authenticated) -> Link:
        return self._link_of(found, self._reception.sealed, self.sealed_traffic)

    def _link_of(self, found: Authenticated, accept: Door, traffic: Traffic) -> Link:
        door = self._standing.door
        rekeying = Rekeying(door.initiator, door.responder, door.check)
        link = Link(found, accept, self._section, rekeying, self._shook_hands)
        link.traffic = traffic
        traffic.made += 1
        return link

    def _shook_hands(self, link: Link) -> None:
        """Anew, on a link that runs: the peer's roles may be others now."""
        self.outlook.renew()
        self._board.tell_again(link)

    def _ground(self, overlay: Overlay) -> Ground:
        def unwelcome(node: NodeId) -> str | None:
            if self._papers.expelled is not None:
                return f"this node links with nobody: {self._papers.expelled}"
            shut_out = overlay.shut_out(node, trio.current_time()) is not None
            return f"{node.short} broke the protocol and is shut out" if shut_out else None

        def leaving(node: NodeId) -> bool:
            advert = self.view().adverts.get(node)
            return advert is not None and advert.draining

        return Ground(self.me, self.link, self.outlook.next_hop, self.outlook.roles, self._relays, unwelcome, leaving)

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
            if node != self.me and self.outlook.barred(advert):
                self.gossiper.forget(node)
        self.gossiper.reconsider()
        self.outlook.renew()
        self._tell()
        self.tunnels.review()

    def _counted(self, incarnation: int) -> None:
        try:
            self._standing.keep(incarnation)
        except SecretFileError as error:
            # Said all the same: after a restart others show again how far it had counted.
            logger.error("this node's count of its starts could not be kept", reason=str(error))

    def _adverts_changed(self, ids: Iterable[NodeId]) -> None:
        self.outlook.renew()
        self.peers.changed({node: self.gossiper.advert(node) for node in ids})
        if self.tunnels.links:
            # A relay may be leaving, which waits for them.
            self.tunnels.sweep()

    def _links_changed(self) -> None:
        self.outlook.renew()
        self._tell()

    async def _follow_round_trips(self) -> None:
        """Links get their round trips by pinging; a change of class is news for everybody's paths. A membership that
        ends is no event either."""
        told: dict[NodeId, int] = {}
        while True:
            await trio.sleep(1.0)
            classes = {peer: rtt_class(round_trip(link)) for peer, link in self.peers.links.items()}
            if classes != told:
                told = classes
                self._links_changed()
            elif self.outlook.outdated():
                self.outlook.renew()

    def _tell(self) -> None:
        if self._described is None:
            return
        neighbours = tuple(
            Neighbour(bytes(peer), rtt_class(round_trip(link))) for peer, link in sorted(self.peers.links.items())
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
        self.outlook.told = advert
        self.outlook.renew()
        self.gossiper.describe(advert)

    def _sign(self, body: bytes) -> bytes:
        return self._papers.key.sign(ADVERT_CONTEXT, body)
