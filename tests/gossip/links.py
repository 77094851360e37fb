"""A world of overlay machines alone: dials, links, losses and one common table of adverts. No gossip, no trio.

Adverts reach those whose component of the graph of links holds the one that says something, a moment later, as gossip
would bring them. Links fall when an end dies, or a partition stands between.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from meshnode.config.mesh import MeshSection
from meshnode.gossip.overlay import Overlay
from meshnode.gossip.overlay_events import (
    Changed,
    Command,
    Condition,
    Dial,
    Event,
    Failed,
    Linked,
    Look,
    Looked,
    Shed,
    Tick,
    Unlinked,
)
from meshnode.model.advert import Advert, Neighbour
from meshnode.model.ids import NodeId

HOST = b"elsewher"
CONNECT_S, REFUSED_S, NEWS_S = 0.02, 0.05, 0.2
LIFETIME_S = 180.0


def node_id(number: int) -> NodeId:
    return NodeId(number.to_bytes(4, "big") * 8)


def lan(number: int) -> str:
    """Everybody in one network."""
    return f"10.0.0.{number % 250 + 1}:{6375 + number // 250}"


def apart(number: int) -> str:
    """Everybody in a network of their own."""
    return f"10.{number >> 8}.{number & 255}.1:6375"


class Links:
    """`machines` by number; `graph[n]` are the numbers n has links to; `dials` counts by number."""

    def __init__(
        self,
        total: int,
        seed: int = 1,
        *,
        named: Callable[[int], Sequence[int]] = lambda _: (),
        where: Callable[[int], str] = apart,
        listens: Callable[[int], bool] = lambda _: True,
        rtt_s: Callable[[int, int], float | None] = lambda *_: None,
        **settings: object,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.where, self.listens, self.rtt_s, self.named, self.settings = where, listens, rtt_s, named, settings
        self.number: dict[str, int] = {}
        self.numbers: dict[NodeId, int] = {}
        self.machines: dict[int, Overlay] = {}
        self.graph: dict[int, set[int]] = {}
        self.dials: Counter[int] = Counter()
        self.sheds: Counter[int] = Counter()
        self.streams: Counter[tuple[int, int]] = Counter()
        self.side: dict[int, int] = {}
        self.wakes: dict[int, float] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._known: dict[int, dict[NodeId, Advert]] = {}
        self._missed: dict[int, dict[NodeId, float]] = {}
        self._adverts: dict[tuple[int, int], Advert] = {}
        self._heard: dict[int, dict[NodeId, Advert]] = {}
        for number in range(total):
            self.number[where(number)] = number
            self.numbers[node_id(number)] = number
        for number in range(total):
            self.start(number)
        self._at(self.now + NEWS_S, self._news)

    def start(self, number: int, remembered: dict[NodeId, tuple[str, ...]] | None = None) -> None:
        section = MeshSection(peers=tuple(self.where(n) for n in self.named(number)), **self.settings)  # type: ignore[arg-type]
        rng = random.Random(self.rng.random())
        self.machines[number] = Overlay(node_id(number), HOST, section, rng, remembered or {})
        self.graph[number] = set()
        self._known[number] = {node_id(number): self.advert(number)}
        self.tell(number, Changed(dict(self._known[number])))

    def advert(self, number: int) -> Advert:
        """Of its neighbours it says how many there are up to four: that is all that counts here."""
        near = min(4, len(self.graph.get(number, ())))
        if (number, near) not in self._adverts:
            told = tuple(Neighbour(bytes(node_id(n)), 1) for n in range(near))
            where = (self.where(number),) if self.listens(number) else ()
            self._adverts[number, near] = Advert(
                bytes(node_id(number)), b"m" * 32, 1, 1, 180, addresses=where, neighbours=told
            )
        return self._adverts[number, near]

    def kill(self, numbers: Iterable[int]) -> None:
        """These are gone, their ends of links with them; the others' ends notice a moment later."""
        for number in numbers:
            del self.machines[number]
            for other in self.graph.pop(number):
                if other in self.graph:
                    self.graph[other].discard(number)
                    self._at(self.now + self.rng.uniform(0, 2.5), lambda o=other, n=number: self._unlinked(o, n, False))

    def partition(self, side: dict[int, int]) -> None:
        self.side = side
        for number, others in self.graph.items():
            for other in [o for o in others if side and side[o] != side[number]]:
                self.end(number, other)

    def end(self, one: int, two: int, parted_at: int | None = None) -> None:
        if two in self.graph.get(one, ()):
            self.graph[one].discard(two)
            self.graph[two].discard(one)
            self._unlinked(one, two, parted_at == one)
            self._unlinked(two, one, parted_at == two)

    def tell(self, number: int, event: Event) -> None:
        machine = self.machines.get(number)
        if machine is None:
            return
        for command in machine.handle(event, self.now):
            self._perform(number, command)
        due = machine.next_wakeup()
        if due is not None and due != self.wakes.get(number):
            self.wakes[number] = due
            self._at(due, lambda: self._wake(number, due))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let so much time pass, or less once `until` holds; whether it does."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call = heapq.heappop(self._queue)
            call()
            if until is not None and until():
                return True
        self.now = end
        return until is None or until()

    def components(self) -> list[set[int]]:
        left, found = set(self.graph), []
        while left:
            reach, edge = set(), [left.pop()]
            while edge:
                one = edge.pop()
                reach.add(one)
                edge.extend(self.graph[one] - reach)
            left -= reach
            found.append(reach)
        return found

    def connected(self) -> bool:
        return len(self.components()) == 1

    def degrees(self) -> list[int]:
        return sorted(len(others) for others in self.graph.values())

    def _wake(self, number: int, due: float) -> None:
        if self.wakes.get(number) == due:
            del self.wakes[number]
            self.tell(number, Tick())

    def _perform(self, number: int, command: Command) -> None:
        match command:
            case Dial():
                self.dials[number] += 1
                target = next((t for a in command.addresses if (t := self.number.get(a)) is not None), None)
                there = target in self.machines and target is not None and self._open(number, target)
                wait = CONNECT_S * self.rng.uniform(0.5, 1.5) if there else REFUSED_S
                self._at(self.now + wait, lambda: self._land(number, command, target if there else None))
            case Look():
                self.tell(number, Looked({node_id(o): self._condition(number, o) for o in self.graph[number]}))
            case Shed(peer):
                self.sheds[number] += 1
                other = self.numbers[peer]
                self._at(self.now + 0.5, lambda: self.end(number, other, parted_at=other))
            case _:
                pass

    def _condition(self, number: int, other: int) -> Condition:
        return Condition(self.rtt_s(number, other), self.streams[number, other] + self.streams[other, number])

    def _open(self, one: int, two: int) -> bool:
        return self.listens(two) and (not self.side or self.side[one] == self.side[two])

    def _land(self, number: int, dial: Dial, target: int | None) -> None:
        if number not in self.machines:
            return
        if target is None or target not in self.machines or target == number or not self._open(number, target):
            self.tell(number, Failed(dial.target))
            return
        self.graph[number].add(target)
        self.graph[target].add(number)
        self.tell(number, Linked(node_id(target), dial.target, dial.addresses[0]))
        self.tell(target, Linked(node_id(number), host="10.0.0.1"))

    def _unlinked(self, number: int, other: int, parted: bool) -> None:
        if other not in self.graph.get(number, ()):
            self.tell(number, Unlinked(node_id(other), parted))

    def _news(self) -> None:
        """Within each component everybody hears what everybody says; who has not been heard for long has ended."""
        for part in self.components():
            said = {node_id(n): self.advert(n) for n in sorted(part)}
            for number in sorted(part):
                if changed := self._changed(number, said):
                    self.tell(number, Changed(changed))
        self._at(self.now + NEWS_S * (1 if self.now < 1010 else 10), self._news)

    def _changed(self, number: int, said: dict[NodeId, Advert]) -> dict[NodeId, Advert | None]:
        known, missed = self._known[number], self._missed.setdefault(number, {})
        changed: dict[NodeId, Advert | None] = {}
        if self._heard.get(number) != said:
            changed.update((n, a) for n, a in said.items() if known.get(n) is not a)
            self._heard[number] = said
            known.update(said)
            for node in known:
                if node not in said:
                    missed.setdefault(node, self.now)
                else:
                    missed.pop(node, None)
        for node in [n for n, since in missed.items() if since < self.now - LIFETIME_S]:
            del known[node], missed[node]
            changed[node] = None
        return changed

    def _at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), call))
