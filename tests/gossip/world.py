"""N gossip machines and a bad network between them in one heap loop. Not a simulator of anything but gossip."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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

MESH = bytes([7]) * 32


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
        section or GossipSection(),
        fake_judge,
        lambda body: fake_sign(node, body),
        random.Random(seed),
        incarnation,
    )


@dataclass
class Weather:
    """What the network does to frames: shares and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.02)
    corrupt: float = 0.0


class World:
    """Machines by number. Each frame takes its own random delay, so they overtake one another."""

    def __init__(self, count: int, seed: int = 0, weather: Weather | None = None, **section: float) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.weather = weather or Weather()
        self.section = GossipSection(**section)  # type: ignore[arg-type]
        self.now = 0.0
        self.ids = [node_id(n) for n in range(count)]
        self.number = {node: n for n, node in enumerate(self.ids)}
        self.machines: dict[int, Gossip] = {}
        self.links: set[frozenset[int]] = set()
        self.cut: Callable[[int, int], bool] = lambda a, b: False
        self.commands: list[tuple[float, int, Command]] = []
        self.frames = Counter[int]()
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
        if n in self.machines:
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
        assert frozenset((n, to)) in self.links, "sent to somebody who is no neighbour"
        self.frames[n] += 1
        copies = 2 if self.rng.random() < self.weather.duplicate else 1
        for _ in range(copies):
            if self.rng.random() < self.weather.loss:
                continue
            data = command.data
            if self.rng.random() < self.weather.corrupt:
                place = self.rng.randrange(len(data))
                data = data[:place] + bytes([data[place] ^ 1 << self.rng.randrange(8)]) + data[place + 1 :]
            at = self.now + self.rng.uniform(*self.weather.delay_s)
            heapq.heappush(self._heap, (at, next(self._order), to, Received(self.ids[n], data)))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            at, _, n, event = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            if isinstance(event, Received):
                a = self.number[event.frm]
                if frozenset((a, n)) not in self.links or self.cut(a, n):
                    continue
            elif self._armed.get(n) != at:
                continue
            self.tell(n, event)
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
