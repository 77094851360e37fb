"""Who should be linked to whom, when to dial again, and where. Pure; counterpart: mesh.peers, which dials.

Up to `full_mesh_nodes` every node wants a link to every other, above it to a few of its choice (views.py); named peers
are wanted always; silent ones are tried for a day, which is how a partition heals. Not for what is dialled when
(dialling.py), nor for choosing paths (routing) and liveness (net pings links).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.gossip.book import MOST_REACHED, Book
from meshnode.gossip.candidates import is_loopback
from meshnode.gossip.dialling import Dialling
from meshnode.gossip.learning import Learning
from meshnode.gossip.neighbourhood import Held, Neighbourhood
from meshnode.gossip.overlay_events import (
    Asked,
    Breached,
    Changed,
    Command,
    Event,
    Failed,
    Forgotten,
    Heard,
    Known,
    Linked,
    Look,
    Looked,
    Redial,
    Requested,
    Shed,
    Unlinked,
)
from meshnode.gossip.shedding import DRAIN_S
from meshnode.gossip.targets import DAY_S, Kind, Target
from meshnode.gossip.views import ANCHORS, PARTED_S, Views
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

__all__ = ["CROSSED_S", "Overlay", "is_loopback"]

CROSSED_S = 5.0
"""Two links of one pair this close together were dialled at once."""

STEADY_S = 10.0
"""A link that ended sooner counts as a failed dial: a peer that takes links and drops them makes no busy loop."""

ASKED_S = 10.0
"""A peer's wish to be dialled is heeded once in so long."""

FIRST_HOPED, HOPED_S = 4, 0.25
"""Remembered peers dialled at once, and seconds between the others: one that answers is enough in a large mesh."""


def _nobody(_: Advert) -> bytes:
    return b""


@dataclass(slots=True)
class Overlay:
    """`handle(event, now) -> list[Command]`; `next_wakeup()` is when something falls due.

    `host` is this machine's tag: loopback addresses of other machines are never dialled. `remembered` are addresses of
    peers from an earlier run, the likeliest first; gossip's replace them. `inviter(advert)` says who brought a node
    into the mesh, empty where that is not known: choices are spread over inviters, too.
    """

    me: NodeId
    host: bytes
    section: MeshSection
    rng: random.Random
    remembered: Mapping[NodeId, Sequence[str]] = field(default_factory=dict)
    inviter: Callable[[Advert], bytes] = _nobody
    _book: Book = field(init=False)
    _near: Neighbourhood = field(init=False)
    _learning: Learning = field(init=False)
    _heeded: dict[NodeId, float] = field(default_factory=dict)
    _dialling: Dialling = field(init=False)
    _now: float = float("-inf")

    def __post_init__(self) -> None:
        section = self.section
        remembered = [peer for peer in self.remembered if peer != self.me][:MOST_REACHED]
        self._book = Book(self.me, self.host, section.dial_learned)
        views = Views(section, self.rng, frozenset(remembered[:ANCHORS]))
        self._near = Neighbourhood(section, self.rng, self._book, views, self.inviter)
        self._learning = Learning(self.rng, self._book, self._near)
        self._dialling = Dialling(section, self.rng, self._book, self._near, self._learning)
        for address in section.peers:
            self._book.targets[address] = Target(Kind.NAMED, (address,), 0.0)
        for peer in remembered:
            self._book.targets[peer] = Target(Kind.HOPED, tuple(self.remembered[peer]), 0.0, near=True)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event, return what to dial, whom to ask, which links to look at and to close now."""
        if self._now == float("-inf"):
            for place, key in enumerate(self._book.of_kind(Kind.HOPED)[FIRST_HOPED:]):
                self._book.targets[key].due = now + (place + 1) * HOPED_S
        if not self._counts(event, now):
            return []
        self._now = now
        commands: list[Command] = []
        match event:
            case Linked():
                self._link(event, now)
            case Unlinked(peer, parted):
                self._unlink(peer, parted, now)
            case Failed(target, peer):
                self._dialling.failed(target, peer, now)
            case Breached(peer):
                self._dialling.quarantine.breached(peer, now)
            case Asked(peer):
                self._heed(peer, now)
            case Forgotten(peer):
                self._forget(peer)
            case Redial():
                self._near.views.awake()
                self._dialling.redial(now)
            case Looked(links):
                commands += [Shed(peer, DRAIN_S) for peer in self._near.look(links, now)]
            case _:
                pass
        self._dialling.expire(now)
        for node in self._near.choose(self._dialling.barred, now):
            self._learning.want(node, self._book.adverts[node], now)
        commands += self._dialling.begin(now)
        return [*commands, Look()] if self._near.round_due(now) else commands

    def next_wakeup(self) -> float | None:
        """The monotonic time of the next dial, question or look, None when nothing is wanted.

        What waits for a dial under way to end needs no waking: that end is an event.
        """
        pick = self._near.views.next_pick(self._near.staying, self._now)
        dues = (*self._dialling.dues(), pick, self._near.round_at)
        at = min((due for due in dues if due is not None and due > self._now), default=float("inf"))
        return at if at < float("inf") else None

    def shut_out(self, peer: NodeId, now: float) -> float | None:
        """Seconds for which `peer` is still in quarantine, None when it is not."""
        return self._dialling.quarantine.left_s(peer, now)

    def replaces(self, peer: NodeId, new_dialled: bool, old_dialled: bool, old_age_s: float) -> bool:
        """Whether a new link to `peer` takes the place of the one there is; `…_dialled`: this end dialled it.

        Dialled from the same side, or long after, the new one replaces one that died unseen. Of two that crossed, both
        ends see both and keep the same one: that which the lower id dialled (protocol.md §3).
        """
        if new_dialled == old_dialled or old_age_s > CROSSED_S:
            return True
        return new_dialled == (self.me < peer)

    def reached(self) -> tuple[tuple[NodeId, tuple[str, ...]], ...]:
        """Peers worth remembering: those chosen, the oldest first, then others that are linked, then those that were;
        each with its addresses, the one that worked last first."""
        linked = self._near.linked
        chosen = (peer for peer in self._near.views.chosen if peer in linked)
        return self._book.reached(iter((*chosen, *sorted(peer for peer in self._book.candidates if peer in linked))))

    # What comes by the hundred, and rarely matters.

    def _counts(self, event: Event, now: float) -> bool:
        """Take in what is cheap; whether there may be anything to do about it."""
        match event:
            case Heard(address):
                # The cheapest of all: anybody on the LAN can send thousands.
                return self._dialling.hear(address, now)
            case Changed(said):
                return self._learning.learn(said, now)
            case Known(adverts):
                self._learning.learn(self._book.news(adverts), now)
            case Requested(peer):
                if self._near.heat.requested(peer, now, relayed=peer not in self._near.linked):
                    self._heat_up(peer, now)
                    return True
                return False
            case _:
                pass
        return True

    # What each other event changes.

    def _link(self, event: Linked, now: float) -> None:
        held = self._near.linked.setdefault(event.peer, Held(now))
        self._near.leaving.discard(event.peer)
        self._book.candidates.linked(event.peer, event.address, event.host)
        self._near.views.landed(event.peer, event.address)
        if event.target is not None:
            held.dialled = True
            self._dialling.landed(event.target, event.peer)

    def _unlink(self, peer: NodeId, parted: bool, now: float) -> None:
        shed = peer in self._near.leaving
        held = self._near.ended(peer, now)
        self._dialling.storm.ended(now)
        for key in self._book.keys_of(peer):
            target = self._book.targets[key]
            if now - held.since >= STEADY_S:
                target.failures, target.due = 0, now + self._dialling.storm.delay_s(self.rng)
            else:
                target.wait(self.rng, self.section, now)
            if target.kind in (Kind.HOPED, Kind.DEAD):
                target.until = now + DAY_S
            if target.once:
                self._book.drop(key)
        if self._near.views.wide and (parted or shed):
            self._part(peer, now)
        elif peer in self._near.views.chosen and peer not in self._book.adverts:
            self._near.views.failed(peer, now)
        if not self._near.linked:
            self._dialling.hurry(now)

    def _part(self, peer: NodeId, now: float) -> None:
        """One of the two did not want the link: it is left in peace for a while, unless there is no other."""
        self._near.views.parted(peer, now)
        self._near.heat.cool(peer)
        for key in self._book.keys_of(peer):
            target = self._book.targets[key]
            if target.kind is Kind.KNOWN:
                self._book.drop(key)
            else:
                target.due = now + self.rng.uniform(1.0, 2.0) * PARTED_S

    def _heed(self, peer: NodeId, now: float) -> None:
        self._heeded = {who: at for who, at in self._heeded.items() if at > now - ASKED_S}
        if peer == self.me or peer in self._near.linked or peer in self._heeded:
            return
        if (target := self._learning.once(peer, now)) is not None:
            self._heeded[peer] = now
            target.due = now

    def _heat_up(self, peer: NodeId, now: float) -> None:
        self._near.heat.cool(peer)
        if peer == self.me or peer in self._near.linked:
            return
        if (target := self._learning.once(peer, now)) is not None:
            self._near.heat.heat(peer, now)
            target.once = False

    def _forget(self, peer: NodeId) -> None:
        self._book.forget(peer)
        self._near.views.forget(peer)
        self._near.heat.cool(peer)
