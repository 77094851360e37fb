"""The passive view: a random sample, bounded, of the nodes that could be dialled. Pure.

Min-wise: each node has a rank under a secret salt, and the lowest stay, so neither telling often nor telling first gets
a node in (Bortnikov et al., "Brahms", 2009). One network may crowd the sample only where there are no others. Not for
choosing among them (views.py).
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from meshnode.model.ids import NodeId

CROWD = 8
"""Nodes of one network that are as welcome as any."""

_Key = tuple[int, bool, int]
"""Failures, whether its network crowds the sample, rank: the larger, the sooner it gives way."""

Groups = tuple[str, bytes]
"""The network a node is in, and who invited it; empty where that is not known."""


@dataclass(slots=True)
class _Held:
    rank: int
    groups: Groups
    failures: int = 0
    key: _Key = (0, False, 0)
    """As it stands in the order."""


class Passive:
    """At most `most` nodes. Iterates over their ids, in an order that says nothing."""

    def __init__(self, most: int, rng: random.Random) -> None:
        self._most = most
        self._salt = rng.randbytes(16)
        self._held: dict[NodeId, _Held] = {}
        self._networks: dict[str, set[NodeId]] = {}
        self._order: list[tuple[_Key, NodeId]] = []
        """Sorted: the last is the first to give way."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._held)

    def __contains__(self, node: object) -> bool:
        return node in self._held

    def groups(self, node: NodeId) -> Groups:
        """Where a node of the sample is and who brought it."""
        return self._held[node].groups

    def failures(self, node: NodeId) -> int:
        """Dials in a row that failed."""
        return self._held[node].failures

    def offer(self, node: NodeId, groups: Callable[[], Groups | None]) -> bool:
        """A node that is alive; `groups()` is None when it cannot be dialled, and called only when it counts. Returns
        whether the node is new in the sample."""
        held = self._held.get(node)
        rank = held.rank if held is not None else self._rank(node)
        full = held is None and len(self._held) >= self._most
        if full and (0, False, rank) >= self._order[-1][0]:
            return False
        found = groups()
        if found is None or held is not None:
            return self._again(node, held, found)
        if full:
            key, last = self._order[-1]
            # In the place of one of its own network it makes the crowd no larger.
            others = len(self._networks.get(found[0], ())) - (self._held[last].groups[0] == found[0])
            if (0, self._crowded(found[0], others + 1), rank) >= key:
                return False
            self.discard(last)
        self._put(node, _Held(rank, found))
        return True

    def discard(self, node: NodeId) -> bool:
        """It is gone. Whether it was here."""
        held = self._held.pop(node, None)
        if held is None:
            return False
        self._unplace(node, held)
        network = self._networks[held.groups[0]]
        network.discard(node)
        if not network:
            del self._networks[held.groups[0]]
        elif len(network) == CROWD:
            self._replace(network)
        return True

    def failed(self, node: NodeId) -> None:
        """It could not be dialled: any node never tried is better now."""
        if (held := self._held.get(node)) is not None:
            held.failures += 1
            self._replace((node,))

    def worked(self, node: NodeId, network: str | None) -> None:
        """It was dialled; `network`: where it was found, whatever it says."""
        if (held := self._held.get(node)) is not None:
            self.discard(node)
            self._put(node, _Held(held.rank, (held.groups[0] if network is None else network, held.groups[1])))

    def clear(self) -> None:
        """Begin anew."""
        self._held.clear()
        self._networks.clear()
        self._order.clear()

    def _again(self, node: NodeId, held: _Held | None, found: Groups | None) -> bool:
        if found is None:
            self.discard(node)
        elif held is not None and held.groups != found:
            self.discard(node)
            self._put(node, _Held(held.rank, found, held.failures))
        return False

    def _put(self, node: NodeId, held: _Held) -> None:
        self._held[node] = held
        network = self._networks.setdefault(held.groups[0], set())
        network.add(node)
        self._place(node, held)
        if len(network) == CROWD + 1:
            self._replace(network)

    # The order is kept up with each change: of a thousand nodes that are offered a few hundred get in, one by one.

    def _replace(self, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._unplace(node, self._held[node])
            self._place(node, self._held[node])

    def _place(self, node: NodeId, held: _Held) -> None:
        network = held.groups[0]
        held.key = (held.failures, self._crowded(network, len(self._networks[network])), held.rank)
        insort(self._order, (held.key, node))

    def _unplace(self, node: NodeId, held: _Held) -> None:
        del self._order[bisect_left(self._order, (held.key, node))]

    @staticmethod
    def _crowded(network: str, count: int) -> bool:
        return count > CROWD and network != ""

    def _rank(self, node: NodeId) -> int:
        return int.from_bytes(hashlib.blake2b(node, digest_size=8, key=self._salt).digest(), "big")
