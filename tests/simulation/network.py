"""The virtual network: links that are reliable ordered streams until they break, and what may lie between their ends.

A lost packet is sent again, so that it delays all behind it; what is sent into a cut waits there, and all sent after it
behind it, until it heals or an end has given the link up, as pings do after `ping_s` times `ping_misses`. Not for what
travels (node.py, jobs.py).
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meshnode.gossip import messages
from meshnode.gossip.overlay_events import Dial, Failed, Linked
from meshnode.model.ids import NodeId
from tests.simulation.loop import Loop

if TYPE_CHECKING:
    from tests.simulation.node import SimNode

Arrival = Callable[["SimNode", "Wire", Any], None]

KINDS = frozenset(messages._KINDS)
GARBAGE = b"garbage"
"""What a frame is counted as."""

RESEND_S = 0.2
"""Linux's least retransmission time-out (RFC 6298 says 1 s); doubles."""

BUSY_S = 0.1
"""A link on which something was sent so lately carries more soon."""

WAYS_TO_LINK = 5
"""One-way trips of a TCP and a Noise XX handshake before the dialler knows whom it met."""

SLOW_S = 0.002
"""What a frame costs at its sender, times how much slower than usual the sender is."""


@dataclass(slots=True, eq=False)
class Wire:
    """One link. Ends are 0, the dialler, and 1; a direction is named by the end that sends. `held` waits in a cut."""

    ends: tuple[SimNode, SimNode]
    lives: tuple[int, int]
    one_way_s: float
    opened: float
    arrived: list[float]
    sent: list[float] = field(default_factory=lambda: [0.0, 0.0])
    closed: list[bool] = field(default_factory=lambda: [False, False])
    parted: list[bool] = field(default_factory=lambda: [False, False])
    blocked: list[bool] = field(default_factory=lambda: [False, False])
    bad_since: float | None = None
    held: tuple[deque[tuple[Arrival, Any]], deque[tuple[Arrival, Any]]] = field(
        default_factory=lambda: (deque(), deque())
    )
    reason: None = None

    def end(self, node: SimNode) -> int:
        """Which end `node` is."""
        return 0 if node is self.ends[0] else 1

    def peer(self, node: SimNode) -> SimNode:
        """The other end."""
        return self.ends[1] if node is self.ends[0] else self.ends[0]

    @property
    def whole(self) -> bool:
        """Whether frames pass both ways now."""
        return self.bad_since is None and not self.closed[0] and not self.closed[1]


class Network:
    """Latencies, cuts and losses between nodes, and the wires there are."""

    def __init__(self, loop: Loop, seed: int, ping_s: float, ping_misses: int) -> None:
        self.loop = loop
        self.rng = random.Random(f"network {seed}")
        self._random = self.rng.random
        self.loss = self.drop = self.duplicate = 0.0
        self.latency_s: tuple[float, float] | None = None
        self.muted = False
        """While this holds dials succeed at once and no gossip is sent: see `World.boot_linked`."""
        self.by_address: dict[str, SimNode] = {}
        self.cuts: Counter[tuple[int, int]] = Counter()
        self.islands: list[frozenset[int]] = []
        self.wires: dict[Wire, None] = {}
        self.bytes: Counter[bytes] = Counter()
        self.frames = 0
        self._seed = seed
        self._ping_s = ping_s
        self._dead_s = ping_s * ping_misses
        self._latency: dict[tuple[int, int], float] = {}

    def one_way_s(self, a: int, b: int) -> float:
        """Latency of a pair, the same both ways: most are of one site and some an ocean apart, or within
        `latency_s`."""
        pair = (a, b) if a < b else (b, a)
        known = self._latency.get(pair)
        if known is None:
            rng = random.Random(f"{self._seed} {pair}")
            known = rng.uniform(*self.latency_s) if self.latency_s is not None else 10 ** rng.uniform(-3.7, -1.3)
            self._latency[pair] = known
        return known

    def blocks(self, a: int, b: int) -> bool:
        """Whether nothing passes from `a` to `b`."""
        return self.cuts[a, b] > 0 or any((a in island) != (b in island) for island in self.islands)

    # Frames.

    def send(self, wire: Wire, frm: SimNode, arrival: Arrival, what: Any) -> None:
        """Deliver `what` at the other end, after everything sent before it."""
        end = 0 if frm is wire.ends[0] else 1
        loop = self.loop
        at = loop.now + wire.one_way_s * (1.0 + 0.1 * self._random())
        if self.loss:
            at += self._resent_s(wire, end)
        if frm.slow > 1.0:
            at += SLOW_S * frm.slow
        arrived = wire.arrived
        if at < arrived[end]:
            at = arrived[end]
        arrived[end] = at
        loop.at(at, self._arrive, wire, end, arrival, what)

    def _resent_s(self, wire: Wire, end: int) -> float:
        """What losses cost: a round trip each where later segments show them (RFC 8985), else a probe of the tail
        after two round trips, and time-outs that double."""
        round_trip_s = 2 * wire.one_way_s + 0.01
        busy = self.loop.now - wire.sent[end] < BUSY_S
        wire.sent[end] = self.loop.now
        resent_s, step_s = 0.0, round_trip_s if busy else 2 * round_trip_s
        while self._random() < self.loss:
            resent_s += step_s
            if not busy:
                step_s = RESEND_S if step_s < RESEND_S else 2 * step_s
        return resent_s

    def gossip(self, wire: Wire, frm: SimNode, data: bytes) -> None:
        """A gossip frame: counted, and it may vanish or come twice."""
        if self.muted:
            return
        self.counted(data)
        if self.drop and self._random() < self.drop:
            return
        arrives = type(frm).received
        self.send(wire, frm, arrives, data)
        if self.duplicate and self._random() < self.duplicate:
            self.send(wire, frm, arrives, data)

    def counted(self, data: bytes) -> None:
        """A gossip frame is sent."""
        self.frames += 1
        kind = data[2 : 2 + (data[1] & 31)]
        self.bytes[kind if kind in KINDS else GARBAGE] += len(data) + 4

    def _arrive(self, wire: Wire, end: int, arrival: Arrival, what: Any) -> None:
        if wire.closed[1 - end]:
            return
        if wire.held[end] or (wire.bad_since is not None and self._stopped(wire, end)):
            wire.held[end].append((arrival, what))
            return
        arrival(wire.ends[1 - end], wire, what)

    def _stopped(self, wire: Wire, end: int) -> bool:
        receiver = wire.ends[1 - end]
        return wire.blocked[end] or receiver.frozen or receiver.life != wire.lives[1 - end]

    def _resume(self, wire: Wire, end: int) -> None:
        """What waited has been sent again; where nothing passes once more, it goes on waiting."""
        held, there = wire.held[end], 1 - end
        while held and not self._stopped(wire, end):
            arrival, what = held.popleft()
            if not wire.closed[there]:
                arrival(wire.ends[there], wire, what)

    # Links.

    def dial(self, node: SimNode, dial: Dial) -> None:
        """Perform a Dial: a link comes about, or fails as sockets fail."""
        if self.muted:
            self.loop.after(0.0, self._meet, node, self.by_address[dial.addresses[0]], dial)
            return
        found = [self.by_address[address] for address in dial.addresses if address in self.by_address]
        others = [other for other in found if other is not node and other.up]
        peer = next((other for other in others if self._passes(node, other)), None)
        if peer is None:
            # Refused at once where only the process is gone, else silence.
            refused = not others and bool(found)
            self._later(node, 0.05 if refused else node.section.dial_timeout_s, node.overlay_event, Failed(dial.target))
            return
        takes_s = self.one_way_s(node.number, peer.number) * WAYS_TO_LINK * max(node.slow, peer.slow)
        for _ in range(3):
            resend_s = 1.0
            while self.loss and self.rng.random() < self.loss:
                takes_s += resend_s
                resend_s *= 2
        if takes_s > node.section.handshake_timeout_s:
            self._later(node, node.section.handshake_timeout_s, node.overlay_event, Failed(dial.target))
        else:
            self._later(node, takes_s, self._meet, node, peer, dial)

    def _meet(self, node: SimNode, peer: SimNode, dial: Dial) -> None:
        wrong = isinstance(dial.target, NodeId) and dial.target != peer.id
        if wrong or not peer.up or not self._passes(node, peer):
            node.overlay_event(Failed(dial.target))
            return
        if not isinstance(dial.target, NodeId) and peer.id in node.links:
            # Whoever is at a named address has a link already, and need not hear of this (mesh.peers.unless_linked).
            node.overlay_event(Linked(peer.id, dial.target))
            return
        wire = self.wire(node, peer)
        # The dialler's last word of the handshake goes before anything it says on the link.
        self.send(wire, node, _accepted, None)
        node.live(wire, dial.target, dial.addresses[0])

    def wire(self, node: SimNode, peer: SimNode) -> Wire:
        """A new link that `node` dialled; both ends are still to be told."""
        one_way_s = self.one_way_s(node.number, peer.number)
        now = self.loop.now
        wire = Wire((node, peer), (node.life, peer.life), one_way_s, now, [now, now])
        self.wires[wire] = None
        return wire

    def _passes(self, node: SimNode, peer: SimNode) -> bool:
        a, b = node.number, peer.number
        return not (peer.frozen or self.blocks(a, b) or self.blocks(b, a))

    def close(self, wire: Wire, node: SimNode) -> None:
        """`node` ends the link; the other end hears of it in its turn."""
        end = wire.end(node)
        if not wire.closed[end]:
            wire.closed[end] = True
            self._over(wire)
            self.send(wire, node, _closed, None)

    def vanish(self, wire: Wire, node: SimNode) -> None:
        """`node`'s machine is off: the other end hears nothing."""
        wire.closed[wire.end(node)] = True
        self._over(wire)

    def reassess(self) -> None:
        """Cuts, freezes or deaths changed: which links pass frames now, and who will notice when."""
        for wire in list(self.wires):
            a, b = wire.ends
            wire.blocked = [self.blocks(a.number, b.number), self.blocks(b.number, a.number)]
            gone = any(node.life != life or not node.up for node, life in zip(wire.ends, wire.lives, strict=True))
            bad = gone or a.frozen or b.frozen or wire.blocked[0] or wire.blocked[1]
            if bad and wire.bad_since is None:
                wire.bad_since = self.loop.now
                for end in (0, 1):
                    noticed_s = self._dead_s + self._ping_s * self.rng.random()
                    self.loop.after(noticed_s, self._notice, wire, end, wire.bad_since)
            elif not bad and wire.bad_since is not None:
                wire.bad_since = None
                at = self.loop.now + self.rng.uniform(0.1, 1.0)
                for end in (0, 1):
                    if wire.held[end]:
                        self.loop.at(at, self._resume, wire, end)

    def _notice(self, wire: Wire, end: int, since: float) -> None:
        node = wire.ends[end]
        alive = node.up and not node.frozen and node.life == wire.lives[end]
        if wire.bad_since == since and not wire.closed[end] and alive:
            self.close(wire, node)
            node.lost(wire)

    def _over(self, wire: Wire) -> None:
        if wire.closed[0] and wire.closed[1]:
            self.wires.pop(wire, None)

    def _later(self, node: SimNode, seconds: float, call: Callable[..., None], *args: Any) -> None:
        node.after(seconds, call, *args)


def _accepted(node: SimNode, wire: Wire, _: None) -> None:
    node.live(wire, None, None)


def _closed(node: SimNode, wire: Wire, _: None) -> None:
    end = wire.end(node)
    if not wire.closed[end]:
        wire.closed[end] = True
        wire.ends[0].world.network.wires.pop(wire, None)
        node.lost(wire)
