"""One simulated node: the real machines, and in place of the mesh room's shell a few lines that perform their commands.

Follows mesh.peers, mesh.gossiper and mesh.mesh in what they do, but for one thing: links that change within `settled_s`
are described once. Not for jobs (jobs.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from meshnode.config.dispatch import DispatchSection
from meshnode.config.mesh import MeshSection
from meshnode.config.routing import RoutingSection
from meshnode.gossip import Gossip
from meshnode.gossip import overlay_events as overlay
from meshnode.gossip.events import (
    Changed,
    Cleared,
    Convicted,
    Counted,
    Dead,
    Describe,
    Heard,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reported,
    Send,
    Suspected,
    Tick,
    Violation,
)
from meshnode.gossip.facts import Facts, facts
from meshnode.gossip.overlay import Overlay
from meshnode.gossip.overlay_events import (
    AskToDial,
    Breached,
    Condition,
    Dial,
    Failed,
    Linked,
    Look,
    Looked,
    Shed,
    Unlinked,
)
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing import Router, Seen
from tests.simulation.network import Wire
from tests.simulation.stand_ins import judge, node_id, signature

if TYPE_CHECKING:
    from tests.simulation.world import World

RTT_CLASSES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""As mesh.mesh advertises round trips."""

_LATE_S = 1e-6
"""Clocks are computed back and forth: woken a little late rather than early for nothing."""


def address_of(number: int) -> str:
    """Where the `number`th node listens."""
    return f"10.{number & 255}.{number >> 8}.1:6375"  # networks of their own, among which overlays spread their choice


class SimNode:
    """`start` begins a life; `crash` ends it. Times handed to machines are of this node's own clock."""

    def __init__(self, world: World, number: int, key: int, section: MeshSection) -> None:
        self.world = world
        self.number = number
        self.id = node_id(key)
        self.host = number.to_bytes(4, "big")
        self.section = section
        self.up = self.frozen = self.left = self.spoken = False
        self.honest = True
        self.slow = 1.0
        self.engines: tuple[ModelOffer, ...] = ()
        self.thawed_at = float("-inf")
        self.pinned: frozenset[NodeId] = frozenset()
        self.life = 0
        self.started = float("-inf")
        self.incarnation = 0
        self._remembered: dict[NodeId, tuple[str, ...]] = {}
        self._clock = (0.0, 1000.0 + world.clocks_apart_s * number, 1.0)

    def start(self, described: Advert, *, forgotten: bool = False) -> None:
        """A new life with new machines; the incarnation is one more than in the last life, unless it is forgotten.
        It says nothing before it is told to `speak`."""
        world = self.world
        self.life += 1
        self.started = world.loop.now
        self.up, self.frozen, self.left, self.spoken = True, False, False, False
        self.incarnation = 1 if forgotten else self.incarnation + 1
        rng = random.Random(f"{world.seed} {self.number} {self.life}")
        self.gossip = Gossip(self.id, world.gossip_section, judge, self._sign, rng, self.incarnation, self._facts)
        self.overlay = Overlay(self.id, self.host, self.section, random.Random(rng.random()), self._remembered)
        self.router = Router(DispatchSection(), RoutingSection())
        self.seen = Seen(DispatchSection().seen_jobs, DispatchSection().seen_s)
        self.links: dict[NodeId, Wire] = {}
        self.described = described
        self.told = described
        self.version = 0
        self._view: View | None = None
        self._armed: dict[str, float | None] = {"gossip": None, "overlay": None}
        self._due: set[str] = set()
        self._thawed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        world.watch.born(self)

    def speak(self) -> None:
        """Describe itself for the first time, to whoever is linked already."""
        self.spoken = True
        for peer in self.links:
            self.gossip_event(NeighbourUp(peer))
        self._tell()

    def crash(self, *, silent: bool) -> None:
        """The life ends. `silent`: nobody tells the peers."""
        network = self.world.network
        for wire in [wire for wire in network.wires if self in wire.ends]:
            (network.vanish if silent else network.close)(wire, self)
        self._remembered = dict(self.overlay.reached())
        self.up = self.frozen = False
        self.life += 1
        self.links = {}
        network.reassess()

    # Clock.

    def clock(self) -> float:
        """What its monotonic clock shows now."""
        since, shown, rate = self._clock
        return shown + (self.world.loop.now - since) * rate

    def set_clock(self, ahead_s: float, rate: float) -> None:
        """The clock jumps ahead and goes on at another rate."""
        self._clock = (self.world.loop.now, self.clock() + ahead_s, rate)
        if self.up and not self.frozen:
            self._tick()

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call `seconds` from now, unless this life is over; frozen, as soon as it goes on."""
        self.world.loop.after(seconds, self._call, self.life, call, args)

    def _call(self, life: int, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.life != life:
            return
        if self.frozen:
            self._thawed.append((call, args))
        else:
            call(*args)

    def freeze(self) -> None:
        """Stand still."""
        self.frozen = True
        self.world.network.reassess()

    def thaw(self) -> None:
        """Go on: what came meanwhile is waiting."""
        self.frozen = False
        self.thawed_at = self.world.loop.now
        self.world.network.reassess()
        calls, self._thawed = self._thawed, []
        for call, args in calls:
            call(*args)
        self._tick()

    def _tick(self) -> None:
        self._armed = dict.fromkeys(self._armed)
        self.gossip_event(Tick())
        self.overlay_event(overlay.Tick())

    # Machines.

    def gossip_event(self, event: Any) -> None:
        """Tell the gossip machine and perform what it says."""
        world, gossip = self.world, self.gossip
        world.watch.current = self
        for command in gossip.handle(event, self.clock()):
            if isinstance(command, Send):
                wire = self.links.get(command.to)
                if wire is not None and not (world.large and self._vain(wire, command.data)):
                    world.network.gossip(wire, self, command.data)
            else:
                self._perform(command)
        wakeup = gossip.next_wakeup()
        if wakeup != self._armed["gossip"]:
            self._arm("gossip", wakeup)

    def _vain(self, wire: Wire, data: bytes) -> bool:
        """Whether the peer has just taken in this very frame, so that the machine there would find it an echo: counted
        and not carried, which saves two of five events in a large mesh."""
        peer, network = wire.peer(self), self.world.network
        gossip = peer.gossip
        if data not in gossip._echoes or not gossip._detector.at_ease(self.id) or peer.links.get(self.id) is not wire:
            return False
        if wire.bad_since is not None or wire.held[wire.end(self)] or network.loss or network.muted:
            return False
        network.counted(data)
        return True

    def _perform(self, command: Any) -> None:
        watch = self.world.watch
        match command:
            case Changed():
                watch.changed(self, sorted(command.ids))
                self._renew()
                self.overlay_event(overlay.Changed({node: self.gossip.advert(node) for node in command.ids}))
            case Reported():
                self._reported(command.node, command.facts)
            case Suspected():
                watch.suspected(self, command.node)
                self._renew()
            case Cleared():
                self._renew()
            case Dead():
                watch.tell(f"n{self.number} gives up n{self.world.number(command.node)}: {command.reason}")
                self.unlink(command.node)
            case Convicted():
                watch.convicted(self, command.node)
                if command.node != self.id:
                    self._breached(command.node)
            case Counted(incarnation):
                self.incarnation = incarnation
            case Violation():
                watch.violation(self, command.frm, command.reason)
                self._breached(command.frm)
            case _:
                watch.unknown(command)

    def _breached(self, peer: NodeId) -> None:
        self.overlay_event(Breached(peer))
        self.unlink(peer)

    def _reported(self, peer: NodeId, facts: Any) -> None:
        advert = self.gossip.advert(peer)
        for offer in advert.models if advert is not None else ():
            self.router.reported(peer, offer.name, facts, self.clock())

    def overlay_event(self, event: Any) -> None:
        """Tell the overlay machine and perform what it says."""
        for command in self.overlay.handle(event, self.clock()):
            match command:
                case Dial():
                    self.world.network.dial(self, command)
                case AskToDial(peer):
                    self.world.ask_to_dial(self, peer)
                case Look():
                    self.overlay_event(Looked({peer: self._condition(wire) for peer, wire in self.links.items()}))
                case Shed(peer, within_s):
                    self._shed(self.links.get(peer), within_s)
                case _:
                    self.world.watch.unknown(command)
        self._arm("overlay", self.overlay.next_wakeup())

    def _arm(self, which: str, wakeup: float | None) -> None:
        if wakeup is None or wakeup == self._armed[which]:
            return
        self._armed[which] = wakeup
        since, shown, rate = self._clock
        now = self.world.loop.now
        if wakeup <= shown + (now - since) * rate:
            self.world.watch.broken(f"n{self.number}'s {which} wants to be woken in the past: it would never sleep")
        self.world.loop.at(since + (wakeup - shown) / rate + _LATE_S, self._woken, self.life, which, wakeup)

    def _woken(self, life: int, which: str, wakeup: float) -> None:
        if self.life != life or self._armed[which] != wakeup:
            return
        if self.frozen:
            self._thawed.append((self._woken, (life, which, wakeup)))
            return
        self._armed[which] = None
        if which == "gossip":
            self.gossip_event(Tick())
        else:
            self.overlay_event(overlay.Tick())

    # Links, as mesh.peers keeps them.

    def live(self, wire: Wire, target: str | NodeId | None, address: str | None) -> None:
        """A handshake is done: keep the link unless the pair has a better one or the peer may have none."""
        peer, end = wire.peer(self).id, wire.end(self)
        linked = Linked(peer, target, address, "" if end == 0 else address_of(wire.peer(self).number).split(":")[0])
        shut_out = self.overlay.shut_out(peer, self.clock()) is not None
        if self.left or peer == self.id or shut_out:
            self.world.network.close(wire, self)
            if target is not None:
                self.overlay_event(Failed(target, peer))
            return
        rival = self.links.get(peer)
        if rival is not None and not self._replaces(peer, end, rival):
            self.overlay_event(linked)
            self.world.network.close(wire, self)
            return
        self.links[peer] = wire
        if rival is not None:
            self.world.network.close(rival, self)
            self.world.jobs.cut(self, rival)
        self.overlay_event(linked)
        if self.spoken:
            self._links_changed()
            self.gossip_event(NeighbourUp(peer))

    def _replaces(self, peer: NodeId, end: int, rival: Wire) -> bool:
        age_s = self.world.loop.now - rival.opened
        return self.overlay.replaces(peer, end == 0, rival.end(self) == 0, age_s)

    def lost(self, wire: Wire) -> None:
        """A link has ended, by whomever."""
        peer = wire.peer(self).id
        self.world.jobs.cut(self, wire)
        if self.links.get(peer) is wire:
            del self.links[peer]
            self.overlay_event(Unlinked(peer, wire.parted[1 - wire.end(self)]))
            self._links_changed()
            self.gossip_event(NeighbourDown(peer))

    def unlink(self, peer: NodeId) -> None:
        """The link to `peer`, if there is one, ends by this node's will."""
        wire = self.links.get(peer)
        if wire is not None:
            self.world.network.close(wire, self)
            self.lost(wire)

    def _condition(self, wire: Wire) -> Condition:
        return Condition(2 * wire.one_way_s, self.world.jobs.on(self, wire))

    def _shed(self, wire: Wire | None, within_s: float) -> None:
        """Part in peace: the peer is told, and the link ends when what runs on it has."""
        if wire is None:
            return
        wire.parted[wire.end(self)] = True
        for_s = 0.5
        if self._condition(wire).streams and within_s > for_s:
            self.after(for_s, self._shed, wire, within_s - for_s)
        else:
            self.after(for_s, self._part, wire)

    def _part(self, wire: Wire) -> None:
        if self.links.get(wire.peer(self).id) is wire:
            self.world.network.close(wire, self)
            self.lost(wire)

    def received(self, wire: Wire, data: bytes) -> None:
        """A gossip frame."""
        near, far = wire.ends
        peer = (far if near is self else near).id
        if self.links.get(peer) is wire:
            self.gossip_event(Received(peer, data))

    def heard(self, wire: Wire) -> None:
        """Something else than gossip came over a link."""
        peer = wire.peer(self).id
        if self.links.get(peer) is wire:
            self.gossip_event(Heard(peer))

    # What it knows, as mesh.mesh keeps it.

    def view(self) -> View:
        """What is known now; the same object until something changes."""
        if self._view is None:
            adverts = dict(self.gossip.adverts(self.clock()))
            adverts[self.id] = self.told
            doubted = self.gossip.suspected
            links = {peer: 2 * wire.one_way_s for peer, wire in self.links.items() if peer not in doubted}
            self._view = View(self.id, adverts, links, self.version, pinned=self.pinned)
        return self._view

    def acquainted(self) -> None:
        """Its table was filled behind its back."""
        self._renew()

    def describe(self, advert: Advert) -> None:
        """Say something new."""
        self.described = advert
        self._tell()

    def _links_changed(self) -> None:
        self._renew()
        self._soon("tell", self.world.settled_s, self._tell)

    def _tell(self) -> None:
        near = tuple(Neighbour(bytes(peer), rtt_class(2 * w.one_way_s)) for peer, w in sorted(self.links.items()))
        self.told = msgspec.structs.replace(self.described, neighbours=near[:64])
        self._renew()
        if not self.left:
            self.gossip_event(Describe(self.told))

    def _soon(self, what: str, seconds: float, call: Callable[[], None]) -> None:
        if what not in self._due:
            self._due.add(what)
            self.after(seconds, self._now_due, what, call)

    def _now_due(self, what: str, call: Callable[[], None]) -> None:
        self._due.discard(what)
        call()

    def _renew(self) -> None:
        self.version += 1
        self._view = None

    def _facts(self) -> Facts | None:
        if not self.engines:
            return None
        free, queued, busy, wait_s = 0, 0, 0, 0.0
        for load in self.world.jobs.loads(self):
            free, queued, busy = free + load.free, queued + load.queued, busy + load.busy
            wait_s = max(wait_s, load.expected_wait_s)
        return facts(free, queued, busy, wait_s)

    def _sign(self, body: bytes) -> bytes:
        self.world.watch.made(self, body)
        return signature(self.id, body)


def rtt_class(rtt_s: float) -> int:
    """A round trip in milliseconds, rounded up to its class."""
    return next((limit for limit in RTT_CLASSES_MS if rtt_s * 1000 <= limit), RTT_CLASSES_MS[-1])
