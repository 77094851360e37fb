"""Whom to be linked to in a mesh too large for links to all: the active and the passive view of one node. Pure.

After HyParView (Leitao, Pereira, Rodrigues, DSN 2007), but for this: gossip tells every node of all others, so the
passive view is a sample of them and is never exchanged. Not for dialling (dialling.py) nor closing (shedding.py).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from meshnode.config.mesh import MeshSection
from meshnode.gossip.candidates import is_loopback
from meshnode.gossip.crowd import MOST_READ, network
from meshnode.gossip.passive import Groups, Passive
from meshnode.gossip.rates import Bucket
from meshnode.model.ids import NodeId

ANCHORS = 2
"""Chosen links that are never exchanged, the oldest, and the first to be dialled after a restart: an eclipse by whoever
came later does not survive one (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", 2015)."""

PER_GROUP = 2
"""Chosen links into one network, or to nodes of one inviter, unless there are no others."""

SLACK = 4
"""A full mesh stays one until this part more nodes are in it, so that a node that comes and goes moves no links."""

PICK_S = 2.0
"""Seconds between two choices, once `chosen_links` were made: others choose, too, and may fill what is lacking; and a
sample of dead nodes is no storm of dials."""

REST_S = 120.0
"""A node that could not be dialled is not chosen again so soon."""

PARTED_S = 600.0
"""Nor one of two that parted in peace."""

MOST_RESTING = 1024

NAMES = "names"
"""All host names together stand for one network: they cost nothing to make up."""


@dataclass(slots=True)
class Views:
    """`chosen` are the nodes this one picked, the oldest first, each with where it is and who brought it; `wide` says
    that the mesh is too large for links to all; `anchors` are the first of those remembered from an earlier run."""

    section: MeshSection
    rng: random.Random
    anchors: frozenset[NodeId] = frozenset()
    wide: bool = False
    chosen: dict[NodeId, Groups] = field(default_factory=dict)
    passive: Passive = field(init=False)
    _resting: dict[NodeId, float] = field(default_factory=dict)
    _pace: Bucket = field(init=False)
    _extra: bool = False

    def __post_init__(self) -> None:
        self.passive = Passive(self.section.passive_nodes, self.rng)
        self._pace = Bucket(max(1, self.section.chosen_links), PICK_S)

    def resize(self, nodes: int) -> bool:
        """So many nodes live. Whether that makes the mesh another kind."""
        most = self.section.full_mesh_nodes
        wide = nodes > (most if self.wide else most + most // SLACK)
        switched, self.wide = wide != self.wide, wide
        if switched:
            self.chosen.clear()
            self.passive.clear()
            self._extra = False
        return switched

    def choose(self, node: NodeId, groups: Groups) -> None:
        """Count `node` among the chosen."""
        self.chosen.setdefault(node, groups)

    def lacks(self, linked: Collection[NodeId]) -> bool:
        """Whether one more should be chosen; `linked`: the links that stay."""
        section = self.section
        if not self.wide or not section.active_links:
            return False
        coming = sum(node not in linked for node in self.chosen)
        few = len(self.chosen) < section.chosen_links or len(linked) + coming < section.active_links
        return few or self._extra

    def pick(self, linked: Collection[NodeId], barred: Callable[[NodeId], bool], now: float) -> NodeId | None:
        """The next to be chosen, if one is lacking, and if there is one not `barred`: of those in the least crowded
        place any, those that have not failed first."""
        if not self.lacks(linked) or not self._pace.available(now):
            return None
        free = [n for n in self.passive if n not in linked and n not in self.chosen and not self._rests(n, now)]
        free = [n for n in free if not barred(n)]
        if not free and len(self.chosen) < self.section.chosen_links:
            # Linked to all there are: whoever dialled, who is drawn by lot was not sent by anybody.
            free = [n for n in self.passive if n in linked and n not in self.chosen]
        self._extra = False
        if not free:
            return None
        counts = self._counts()
        order = [
            (self._crowding(counts, self.passive.groups(n)), self.passive.failures(n), self.rng.random(), n)
            for n in free
        ]
        node = min(order)[3]
        self._pace.take(now)
        self.chosen[node] = self.passive.groups(node)
        return node

    def next_pick(self, linked: Collection[NodeId], now: float) -> float | None:
        """When the next choice may be made, as far as only its pace is in the way."""
        return self._pace.ready_at(now) if self.lacks(linked) and not self._pace.available(now) else None

    def try_another(self) -> None:
        """Choose one more than are lacking, to exchange another for it."""
        self._extra = True

    def spare(self, linked: Collection[NodeId]) -> int:
        """How many of the chosen links are more than are needed."""
        up = sum(node in linked for node in self.chosen)
        return max(0, min(up - self.section.chosen_links, len(linked) - self.section.active_links))

    def crowding(self, node: NodeId) -> int:
        """How many too many are where a chosen node is."""
        counts = self._counts()
        counts.subtract([group for group in self.chosen[node] if group])
        return sum(self._crowding(counts, self.chosen[node]))

    def landed(self, node: NodeId, address: str | None) -> None:
        """A chosen node was found at an address, wherever it says it is."""
        found = network_of(address) if address else None
        if found is not None and found != NAMES and node in self.chosen:
            self.chosen[node] = (found, self.chosen[node][1])
            self.passive.worked(node, found)

    def failed(self, node: NodeId, now: float) -> None:
        """A chosen node cannot be dialled."""
        self.passive.failed(node)
        self.rest(node, now + REST_S)

    def parted(self, node: NodeId, now: float) -> None:
        """One of the two did not want the link any more."""
        self.rest(node, now + PARTED_S)

    def rest(self, node: NodeId, until: float) -> None:
        """Choose `node` no more, and not again before that time."""
        self.chosen.pop(node, None)
        self._resting.pop(node, None)
        while len(self._resting) >= MOST_RESTING:
            del self._resting[next(iter(self._resting))]
        self._resting[node] = until

    def forget(self, node: NodeId) -> bool:
        """It is gone. Whether it was in one of the views."""
        was = self.chosen.pop(node, None) is not None
        return self.passive.discard(node) or was

    def awake(self) -> None:
        """This machine is somewhere else now: what could not be dialled there may be here."""
        self._resting.clear()

    def _rests(self, node: NodeId, now: float) -> bool:
        return self._resting.get(node, now) > now

    def _counts(self) -> Counter[str | bytes]:
        return Counter(group for groups in self.chosen.values() for group in groups if group)

    @staticmethod
    def _crowding(counts: Counter[str | bytes], groups: Groups) -> tuple[int, int]:
        """By how much one more would be too many: in its network, and of its inviter."""
        where, inviter = (max(0, counts[group] + 1 - PER_GROUP) if group else 0 for group in groups)
        return where, inviter


@lru_cache(MOST_READ)
def network_of(address: str) -> str:
    """The network of `host:port`, as words; empty for this machine's own."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    found = network(host)
    if found is not None:
        return str(found)
    return "" if is_loopback(address) else NAMES


def place_of(addresses: Iterable[str]) -> str:
    """The network of a node that tells of these addresses: of the first that is not this machine's."""
    return next((where for where in map(network_of, addresses) if where), "")
