"""N gossip machines and a bad network between them in one heap loop. Not a simulator of anything but gossip.

Nodes may be frozen and slow: what reaches them waits.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from meshnode.config.gossip import GossipSection
from meshnode.gossip import (
    Command,
    Describe,
    Event,
    Gossip,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Send,
    Tick,
    Verdict,
)
from meshnode.model.advert import Advert, SignedAdvert, pack
from meshnode.model.codec import MAX_BYTES
from meshnode.model.ids import NodeId

T = TypeVar("T")

RESEND_S = 0.2
"""After what time TCP sends a lost segment again, doubled each time (RFC 6298; 200 ms is Linux's least)."""

MESH = bytes([7]) * 32

UNPROBED = GossipSection(probe_s=86_400.0, wan_probe_s=86_400.0)
"""For tests that count frames and are not about who lives."""


def node_id(number: int) -> NodeId:
    return NodeId(hashlib.sha256(b"node %d" % number).digest())


def fake_sign(node: bytes, body: bytes) -> bytes:
    """Stands in for Ed25519: only its owner makes it, everybody can check it."""
    return hashlib.blake2b(body, key=node).digest()


def fake_judge(advert: Advert, body: bytes, signature: bytes) -> Verdict:
    """Whoever calls itself a stranger is unwanted."""
    if fake_sign(advert.id, body) != signature:
        return Verdict.FORGED
    return Verdict.UNWANTED if advert.name == "stranger" else Verdict.GOOD


def describe(node: NodeId, name: str = "", mesh: bytes = MESH) -> Advert:
    return Advert(node, mesh, 0, 0, 1, name=name)


def signed(advert: Advert) -> SignedAdvert:
    body = pack(advert)
    return SignedAdvert(body, fake_sign(advert.id, body))


def machine(node: NodeId, section: GossipSection | None = None, *, seed: int = 0, incarnation: int = 1) -> Gossip:
    return Gossip(
        node,
        section or UNPROBED,
        fake_judge,
        lambda body: fake_sign(node, body),
        random.Random(seed),
        incarnation,
    )


@dataclass
class Weather:
    """What the network does to frames: shares and seconds. `resent`: what a reliable link loses arrives all the same,
    later, and holds up what follows."""

    loss: float = 0.0
    resent: float = 0.0
    duplicate: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.02)
    corrupt: float = 0.0


class World:
    """Machines by number. Each frame takes its own random delay, so they overtake one another, unless the weather has
    reliable links. `cost_s` is what each event costs a slow node."""

    def __init__(self, count: int, seed: int = 0, weather: Weather | None = None, **section: float) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.weather = weather or Weather()
        self.section = replace(UNPROBED, **section)  # type: ignore[arg-type]
        self.now = 0.0
        self.ids = [node_id(n) for n in range(count)]
        self.number = {node: n for n, node in enumerate(self.ids)}
        self.machines: dict[int, Gossip] = {}
        self.links: set[frozenset[int]] = set()
        self.cut: Callable[[int, int], bool] = lambda a, b: False
        self.commands: list[tuple[float, int, Command]] = []
        self.frames = Counter[int]()
        self.frozen: dict[int, float] = {}
        self.cost_s: dict[int, float] = {}
        self._busy: dict[int, float] = {}
        self._last: dict[tuple[int, int], float] = {}
        self._heap: list[tuple[float, int, int, Event]] = []
        self._order = itertools.count()
        self._armed: dict[int, float] = {}
        for n in range(count):
            self.start(n)

    def start(self, n: int, incarnation: int = 1, name: str = "") -> None:
        self.machines[n] = machine(self.ids[n], self.section, seed=self.rng.randrange(2**32), incarnation=incarnation)
        self._armed.pop(n, None)
        self.tell(n, Describe(describe(self.ids[n], name or f"n{n}")))

    def stop(self, n: int) -> None:
        """Crash: its links break, it says nothing."""
        for link in [link for link in self.links if n in link]:
            self.unlink(*link)
        del self.machines[n]

    def link(self, a: int, b: int) -> None:
        self.links.add(frozenset((a, b)))
        self.tell(a, NeighbourUp(self.ids[b]))
        self.tell(b, NeighbourUp(self.ids[a]))

    def unlink(self, a: int, b: int) -> None:
        self.links.discard(frozenset((a, b)))
        self.tell(a, NeighbourDown(self.ids[b]))
        self.tell(b, NeighbourDown(self.ids[a]))

    def ring(self, chords: int = 1) -> None:
        """A ring, so that all is connected, and random chords."""
        count = len(self.ids)
        for a in range(count):
            for b in {(a + 1) % count, *(self.rng.randrange(count) for _ in range(chords))} - {a}:
                if frozenset((a, b)) not in self.links:
                    self.link(a, b)

    def tell(self, n: int, event: Event) -> None:
        if n in self.machines and self.frozen.get(n, 0.0) > self.now:
            heapq.heappush(self._heap, (self.frozen[n], next(self._order), n, event))
        elif n in self.machines:
            commands = self.machines[n].handle(event, self.now)
            for command in commands:
                self._perform(n, command)
            wakeup = self.machines[n].next_wakeup()
            if wakeup is not None and self._armed.get(n) != wakeup:
                assert wakeup > self.now, "a machine that wants to be woken in the past never sleeps"
                self._armed[n] = wakeup
                heapq.heappush(self._heap, (wakeup, next(self._order), n, Tick()))

    def _perform(self, n: int, command: Command) -> None:
        if not isinstance(command, Send):
            self.commands.append((self.now, n, command))
            return
        to = self.number[command.to]
        assert len(command.data) <= MAX_BYTES
        if frozenset((n, to)) not in self.links:
            assert n in self.frozen, "sent to somebody who is no neighbour"
            return  # who was frozen has still to read that the link is gone
        self.frames[n] += 1
        copies = 2 if self.rng.random() < self.weather.duplicate else 1
        for _ in range(copies):
            if self.rng.random() < self.weather.loss:
                continue
            data = command.data
            if self.rng.random() < self.weather.corrupt:
                place = self.rng.randrange(len(data))
                data = data[:place] + bytes([data[place] ^ 1 << self.rng.randrange(8)]) + data[place + 1 :]
            at = self._arrival(n, to)
            heapq.heappush(self._heap, (at, next(self._order), to, Received(self.ids[n], data)))

    def _arrival(self, n: int, to: int) -> float:
        at = self.now + self.rng.uniform(*self.weather.delay_s)
        if self.weather.resent:
            again_s = RESEND_S
            while self.rng.random() < self.weather.resent:
                at, again_s = at + again_s, 2 * again_s
            at = self._last[n, to] = max(at, self._last.get((n, to), 0.0) + 1e-6)
        return at

    def freeze(self, n: int, seconds: float) -> None:
        """Stop its process; what arrives meanwhile is read when it goes on."""
        self.frozen[n] = self.now + seconds

    def _ready(self, n: int) -> float:
        """When this node can take its next event."""
        return max(self.frozen.get(n, 0.0), self._busy.get(n, 0.0), self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            at, order, n, event = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            if isinstance(event, Tick) and self._armed.get(n) != at:
                continue
            if (ready := self._ready(n)) > self.now:
                if isinstance(event, Tick):
                    self._armed[n] = ready
                heapq.heappush(self._heap, (ready, order, n, event))
                continue
            if isinstance(event, Received):
                a = self.number[event.frm]
                if frozenset((a, n)) not in self.links or self.cut(a, n):
                    continue
            self.tell(n, event)
            if n in self.cost_s:
                self._busy[n] = self.now + self.cost_s[n]
        self.now = end

    def view(self, n: int) -> dict[int, tuple[str, tuple[int, int]]]:
        """What machine `n` believes: name and order by node number."""
        adverts = self.machines[n].adverts(self.now)
        return {self.number[node]: (advert.name, advert.order) for node, advert in adverts.items()}

    def names(self, n: int) -> dict[int, str]:
        return {number: name for number, (name, _) in self.view(n).items()}

    def agree(self, among: Iterable[int] | None = None) -> bool:
        """Whether all machines, or these, believe the same."""
        views = [self.names(n) for n in (self.machines if among is None else among)]
        return all(view == views[0] for view in views)

    def seen(self, kind: type[T]) -> list[T]:
        return [command for _, _, command in self.commands if isinstance(command, kind)]

    def leave(self, n: int) -> None:
        self.tell(n, Leave())
