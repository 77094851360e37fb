"""Who should be linked to whom, when to dial again, and where. Pure; counterpart: mesh.peers, which dials.

Up to `full_mesh_nodes` every node wants a link to every other; named peers are wanted always; silent ones are tried
for a day, which is how a partition heals. Not for choosing paths (routing) and not for liveness (net pings links).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.gossip.asking import Asking
from meshnode.gossip.backoff import Storm
from meshnode.gossip.candidates import Candidates, is_loopback, well_formed
from meshnode.gossip.flights import Flights, Ready
from meshnode.gossip.hints import HINT_S, TRIES, Hints
from meshnode.gossip.overlay_events import (
    Asked,
    AskToDial,
    Breached,
    Command,
    Event,
    Failed,
    Forgotten,
    Heard,
    Known,
    Linked,
    Redial,
    Tick,
    Unlinked,
)
from meshnode.gossip.quarantine import Quarantine
from meshnode.gossip.targets import DAY_S, MOST_DEAD, Key, Kind, Target
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

__all__ = ["CROSSED_S", "Overlay", "is_loopback"]

CROSSED_S = 5.0
"""Two links of one pair this close together were dialled at once."""

STEADY_S = 10.0
"""A link that ended sooner counts as a failed dial: a peer that takes links and drops them makes no busy loop."""

MOMENT_S = 0.05
"""Jitter before news is acted on: two nodes that learn of each other at once need not both dial."""

ASKED_S = 10.0
"""A peer's wish to be dialled is heeded once in so long."""

ASK_AFTER = 2
"""Failed dials after which a peer that has addresses is asked to dial, too."""

MOST_FORGOTTEN = 1024
MOST_REACHED = 64
"""Peers worth writing down: any one that answers is enough, gossip brings the others."""


@dataclass(slots=True)
class Overlay:
    """`handle(event, now) -> list[Command]`; `next_wakeup()` is when something falls due.

    `host` is this machine's tag: loopback addresses of other machines are never dialled. `remembered` are addresses of
    peers from an earlier run, the likeliest first; gossip's replace them.
    """

    me: NodeId
    host: bytes
    section: MeshSection
    rng: random.Random
    remembered: Mapping[NodeId, Sequence[str]] = field(default_factory=dict)
    _targets: dict[Key, Target] = field(default_factory=dict)
    _linked: dict[NodeId, float] = field(default_factory=dict)
    _behind: dict[str, NodeId] = field(default_factory=dict)
    _adverts: Mapping[NodeId, Advert] = field(default_factory=dict)
    _forgotten: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    _heeded: dict[NodeId, float] = field(default_factory=dict)
    _candidates: Candidates = field(default_factory=Candidates)
    _flights: Flights = field(init=False)
    _asking: Asking = field(init=False)
    _hints: Hints = field(init=False)
    _quarantine: Quarantine = field(init=False)
    _storm: Storm = field(init=False)
    _now: float = float("-inf")

    def __post_init__(self) -> None:
        section = self.section
        self._flights = Flights(section.dials)
        self._asking = Asking(self.rng)
        self._hints = Hints(section)
        self._quarantine = Quarantine(section.quarantine_s, section.quarantine_max_s)
        self._storm = Storm(section.dials, section.redial_min_s, section.redial_max_s)
        for address in section.peers:
            self._targets[address] = Target(Kind.NAMED, (address,), 0.0)
        for peer, addresses in list(self.remembered.items())[:MOST_REACHED]:
            if peer != self.me:
                self._targets[peer] = Target(Kind.HOPED, tuple(addresses), 0.0, near=True)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event, return what to dial and whom to ask now."""
        if isinstance(event, Heard) and not self._hear(event.address, now):
            # The cheapest of all: anybody on the LAN can send thousands.
            return []
        self._now = now
        match event:
            case Known(adverts):
                self._learn(adverts, now)
            case Linked():
                self._link(event, now)
            case Unlinked(peer):
                self._unlink(peer, now)
            case Failed(target, peer):
                self._fail(target, peer, now)
            case Breached(peer):
                self._quarantine.breached(peer, now)
            case Asked(peer):
                self._heed(peer, now)
            case Forgotten(peer):
                self._forget(peer)
            case Redial():
                self._redial(now)
            case Heard() | Tick():
                pass
        self._expire(now)
        asked = self._asking.choose(self._blocked(), now)
        return [*self._flights.start(self._ready(now)), *([AskToDial(asked)] if asked is not None else [])]

    def next_wakeup(self) -> float | None:
        """The monotonic time of the next dial or question, None when nothing is wanted.

        What waits for a dial under way to end needs no waking: that end is an event.
        """
        dues = [self._due(key, target) for key, target in self._targets.items() if self._wanted(key)]
        return min((at for at in (*dues, self._asking.next_due()) if at is not None and at > self._now), default=None)

    def shut_out(self, peer: NodeId, now: float) -> float | None:
        """Seconds for which `peer` is still in quarantine, None when it is not."""
        return self._quarantine.left_s(peer, now)

    def replaces(self, peer: NodeId, new_dialled: bool, old_dialled: bool, old_age_s: float) -> bool:
        """Whether a new link to `peer` takes the place of the one there is; `…_dialled`: this end dialled it.

        Dialled from the same side, or long after, the new one replaces one that died unseen. Of two that crossed, both
        ends see both and keep the same one: that which the lower id dialled (protocol.md §3).
        """
        if new_dialled == old_dialled or old_age_s > CROSSED_S:
            return True
        return new_dialled == (self.me < peer)

    def reached(self) -> tuple[tuple[NodeId, tuple[str, ...]], ...]:
        """Peers worth remembering, those linked now first, each with its addresses, the one that worked last first."""
        linked = sorted(peer for peer in self._candidates if peer in self._linked)
        hoped = [key for key, t in self._targets.items() if isinstance(key, NodeId) and t.kind is Kind.HOPED]
        found = ((peer, self._where(peer)) for peer in dict.fromkeys((*linked, *self._candidates, *hoped)))
        return tuple((peer, where) for peer, where in found if where)[:MOST_REACHED]

    # What each event changes.

    def _learn(self, adverts: Mapping[NodeId, Advert], now: float) -> None:
        self._adverts = adverts
        if not self.section.dial_learned:
            return
        for key, target in list(self._targets.items()):
            if isinstance(key, NodeId) and target.kind is Kind.KNOWN and key not in adverts:
                self._lose(key, target, now)
        everyone = len(adverts) <= self.section.full_mesh_nodes
        for node, advert in adverts.items():
            if (everyone or node in self._targets) and node != self.me and not self._disregarded(node, advert):
                self._learn_of(node, advert, everyone, now)
        hints = [key for key, target in self._targets.items() if target.kind is Kind.HINT]
        for key in [key for key in hints if self._peer(key) in self._targets]:
            self._drop(key)

    def _learn_of(self, node: NodeId, advert: Advert, everyone: bool, now: float) -> None:
        """`everyone`: the mesh is so small that every node of it is wanted for good."""
        soon = now + self.rng.uniform(0.0, MOMENT_S)
        target = self._targets.setdefault(node, Target(Kind.KNOWN, (), soon))
        told = self._told(advert)
        if target.kind is not Kind.KNOWN or target.told != told or advert.incarnation > target.order[0]:
            target.found(soon)
        target.kind, target.told, target.near = Kind.KNOWN, told, advert.host == self.host
        target.order, target.until, target.once = advert.order, None, target.once and not everyone

    def _lose(self, node: NodeId, target: Target, now: float) -> None:
        """A node's advert has ended, unsaid."""
        if target.once or not self._where(node):
            self._drop(node)
            return
        target.lost(self.rng, now)
        dead = [key for key, other in self._targets.items() if other.kind is Kind.DEAD]
        if len(dead) > MOST_DEAD:
            self._drop(min(dead, key=lambda key: self._targets[key].until or now))

    def _link(self, event: Linked, now: float) -> None:
        self._linked.setdefault(event.peer, now)
        self._candidates.linked(event.peer, event.address, event.host)
        if event.target is not None:
            self._flights.landed(event.target)
            self._answered(event.target, event.peer)

    def _unlink(self, peer: NodeId, now: float) -> None:
        steady = now - self._linked.pop(peer, now) >= STEADY_S
        self._storm.ended(now)
        for key, target in list(self._targets.items()):
            if self._peer(key) != peer:
                continue
            if steady:
                target.failures, target.due = 0, now + self._storm.delay_s(self.rng)
            else:
                target.wait(self.rng, self.section, now)
            if target.kind in (Kind.HOPED, Kind.DEAD):
                target.until = now + DAY_S
            if target.once:
                self._drop(key)

    def _fail(self, key: Key, peer: NodeId | None, now: float) -> None:
        self._flights.landed(key)
        target = self._targets.get(key)
        if target is None:
            return
        target.wait(self.rng, self.section, now)
        if target.kind is Kind.HOPED and target.until is None:
            target.until = now + DAY_S
        if isinstance(key, str) and target.kind is Kind.HINT and target.failures >= TRIES:
            self._hints.gave_up(key, now)
            self._drop(key)
        elif target.once:
            self._drop(key)
        elif peer is not None:
            self._answered(key, peer)

    def _hear(self, address: str, now: float) -> bool:
        """Take a hint, if it is to be tried; whether it is."""
        held = self._targets.get(address)
        if held is not None and held.kind is Kind.HINT:
            held.until = now + HINT_S
        if held is not None or not self.section.dial_learned or not self._hints.admit(address, now):
            return False
        own = self._adverts.get(self.me)
        known = any(address in target.told for target in self._targets.values())
        if known or (own is not None and address in own.addresses) or not self._place_for_hint():
            return False
        self._targets[address] = Target(Kind.HINT, (address,), now, until=now + HINT_S)
        return True

    def _heed(self, peer: NodeId, now: float) -> None:
        self._heeded = {who: at for who, at in self._heeded.items() if at > now - ASKED_S}
        if peer == self.me or peer in self._linked or peer in self._heeded:
            return
        advert = self._adverts.get(peer) if self.section.dial_learned else None
        if peer not in self._targets and advert is not None and not self._disregarded(peer, advert):
            told, near = self._told(advert), advert.host == self.host
            self._targets[peer] = Target(Kind.KNOWN, told, now, near=near, order=advert.order, once=True)
        if (target := self._targets.get(peer)) is not None:
            self._heeded[peer] = now
            target.due = now

    def _forget(self, peer: NodeId) -> None:
        said = [advert.order for advert in [self._adverts.get(peer)] if advert is not None]
        said += [target.order for target in [self._targets.get(peer)] if target is not None]
        if said:
            while len(self._forgotten) >= MOST_FORGOTTEN:
                del self._forgotten[next(iter(self._forgotten))]
            self._forgotten[peer] = max(said)
        self._candidates.forget(peer)
        for key in [key for key, t in self._targets.items() if self._peer(key) == peer and t.kind is not Kind.NAMED]:
            self._drop(key)

    def _redial(self, now: float) -> None:
        self._hints.forgive()
        self._asking.anew()
        waiting = [target for key, target in self._targets.items() if self._wanted(key)]
        for target in waiting:
            target.failures, target.due = 0, now + self._storm.delay_s(self.rng, len(waiting))

    # What follows from all of it.

    def _ready(self, now: float) -> Iterable[Ready]:
        for key, target in self._targets.items():
            if target.due <= now and self._wanted(key) and self._due(key, target) <= now:
                yield Ready(self._due(key, target), key, target.kind, self._peer(key), self._addresses(key))

    def _blocked(self) -> Iterable[NodeId]:
        """Nodes that this one cannot dial, and that could dial it."""
        own = self._adverts.get(self.me)
        if own is None or not self._linked:
            return
        anywhere = any(not is_loopback(address) for address in own.addresses)
        for key, target in self._targets.items():
            if not isinstance(key, NodeId) or target.kind is not Kind.KNOWN or key in self._linked:
                continue
            shut_out = self._quarantine.until(key) > self._now
            hopeless = target.failures >= ASK_AFTER or not self._where(key)
            if hopeless and not shut_out and (anywhere or (target.near and own.addresses)):
                yield key

    def _expire(self, now: float) -> None:
        for key, target in list(self._targets.items()):
            over = target.until is not None and target.until <= now
            if over and key not in self._flights and self._peer(key) not in self._linked:
                self._drop(key)

    def _wanted(self, key: Key) -> bool:
        peer = self._peer(key)
        return key not in self._flights and peer != self.me and peer not in self._linked

    def _due(self, key: Key, target: Target) -> float:
        return max(target.due, self._quarantine.until(self._peer(key)))

    def _peer(self, key: Key) -> NodeId | None:
        """Who is expected at a target, as far as that is known."""
        return key if isinstance(key, NodeId) else self._behind.get(key)

    def _addresses(self, key: Key) -> tuple[str, ...]:
        return self._where(key) if isinstance(key, NodeId) else (key,)

    def _where(self, peer: NodeId) -> tuple[str, ...]:
        target, advert = self._targets.get(peer), self._adverts.get(peer)
        if target is not None:
            stale = target.failures > 0
            return self._candidates.of(peer, target.told, near=target.near, stale=stale)
        told = self._told(advert) if advert is not None and self.section.dial_learned else ()
        return self._candidates.of(peer, told, near=advert is not None and advert.host == self.host)

    def _told(self, advert: Advert) -> tuple[str, ...]:
        near = advert.host == self.host
        return tuple(a for a in advert.addresses if well_formed(a) and (near or not is_loopback(a)))

    def _disregarded(self, node: NodeId, advert: Advert) -> bool:
        """Whether it has left, or was forgotten and has said nothing since."""
        if advert.gone:
            self._drop(node)
        elif advert.order > self._forgotten.get(node, advert.order):
            del self._forgotten[node]
        return advert.gone or node in self._forgotten

    def _answered(self, key: Key, peer: NodeId) -> None:
        """`peer` was found at a target. A hint that led to a known one has done its work."""
        target = self._targets.get(key)
        if target is not None and isinstance(key, str):
            if target.kind is Kind.HINT and peer in self._targets:
                self._drop(key)
            else:
                self._behind[key] = peer

    def _place_for_hint(self) -> bool:
        """Whether there is room for one more hint; if not, the one that failed most makes it."""
        hints = [(t.failures, key) for key, t in self._targets.items() if t.kind is Kind.HINT and isinstance(key, str)]
        if len(hints) < self.section.hints:
            return True
        failures, key = max(hints)
        if failures:
            self._drop(key)
        return failures > 0

    def _drop(self, key: Key) -> None:
        self._targets.pop(key, None)
        if isinstance(key, str):
            self._behind.pop(key, None)
