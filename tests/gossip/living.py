"""The world of machines with what their shells do about silent neighbours: close the link, and dial again later."""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.gossip import Cleared, Command, Dead, Describe, Suspected
from meshnode.model.advert import Neighbour
from tests.gossip.world import Weather, World, describe

Found = Suspected | Cleared | Dead


class Living(World):
    """Nodes that say whom they are linked to, and whose links end when they are found dead. `redial_s` later the pair
    is linked again, unless one of the two is frozen or gone, or for ever `cut`."""

    def __init__(self, count: int, seed: int = 0, weather: Weather | None = None, redial_s: float = 5.0) -> None:
        default = GossipSection()
        super().__init__(count, seed, weather, probe_s=default.probe_s, wan_probe_s=default.wan_probe_s)
        self.redial_s = redial_s
        self._closing: set[frozenset[int]] = set()
        self._dials: list[tuple[float, int, int]] = []

    def everybody(self) -> None:
        for a in range(len(self.ids)):
            for b in range(a):
                self.link(a, b)
        self.mention()

    def row(self) -> None:
        for a in range(len(self.ids) - 1):
            self.link(a, a + 1)
        self.mention()

    def mention(self) -> None:
        for n in self.machines:
            self._describe(n)

    def _describe(self, n: int) -> None:
        near = sorted(next(iter(link - {n})) for link in self.links if n in link)
        neighbours = tuple(Neighbour(bytes(self.ids[m]), 1) for m in near)
        self.tell(n, Describe(replace(describe(self.ids[n], f"n{n}"), neighbours=neighbours)))

    def _perform(self, n: int, command: Command) -> None:
        super()._perform(n, command)
        if isinstance(command, Dead):
            self._closing.add(frozenset((n, self.number[command.node])))

    def run(self, seconds: float) -> None:
        """In small steps, between which shells close links and dial."""
        end = self.now + seconds
        while self.now < end:
            super().run(min(0.05, end - self.now))
            for link in sorted(self._closing, key=sorted):
                if link in self.links:
                    a, b = sorted(link)
                    self.unlink(a, b)
                    self._describe(a)
                    self._describe(b)
                    heapq.heappush(self._dials, (self.now + self.redial_s, a, b))
            self._closing.clear()
            while self._dials and self._dials[0][0] <= self.now:
                _, a, b = heapq.heappop(self._dials)
                if max(self.frozen.get(a, 0.0), self.frozen.get(b, 0.0)) > self.now or self.cut(a, b) or self.cut(b, a):
                    heapq.heappush(self._dials, (self.now + self.redial_s, a, b))
                else:
                    self.link(a, b)
                    self._describe(a)
                    self._describe(b)

    def found(self, kind: type[Found], about: int | None = None, since: float = 0.0) -> list[tuple[float, int, int]]:
        """When, by whom, about whom."""
        told = [(at, n, self.number[c.node]) for at, n, c in self.commands if isinstance(c, kind) and at >= since]
        return [one for one in told if about in (None, one[2])]
