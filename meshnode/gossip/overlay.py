"""Who should be linked to whom, and when to dial again. Pure; counterpart: mesh.peers, which dials.

Up to `full_mesh_nodes` every node wants a link to every other; explicit peers are wanted always. A target that failed
waits with full jitter, doubling (AWS Architecture Blog, "Exponential Backoff and Jitter"). Not for choosing paths
(routing) and not for liveness (net pings links).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId

CROSSED_S = 5.0
"""Two links of one pair this close together were dialled at once."""


@dataclass(frozen=True, slots=True)
class Known:
    """The living adverts changed."""

    adverts: Mapping[NodeId, Advert]


@dataclass(frozen=True, slots=True)
class Linked:
    """A link to `peer` is up; `address` is the explicit one that led there, if any."""

    peer: NodeId
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link to `peer` ended."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Failed:
    """Dialling `target` brought no link."""

    target: str | NodeId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Dial:
    """Try `addresses`; `target` is an explicit address or the node expected there."""

    target: str | NodeId
    addresses: tuple[str, ...]


Event = Known | Linked | Unlinked | Failed | Tick


@dataclass(slots=True)
class _Target:
    addresses: tuple[str, ...]
    due: float
    failures: int = 0
    dialling: bool = False


@dataclass(slots=True)
class Overlay:
    """`handle(event, now) -> list[Dial]`; `next_wakeup()` is when a target falls due.

    `host` is this machine's tag: loopback addresses of other machines are never dialled.
    """

    me: NodeId
    host: bytes
    section: MeshSection
    rng: random.Random
    _targets: dict[str | NodeId, _Target] = field(default_factory=dict)
    _linked: set[NodeId] = field(default_factory=set)
    _behind: dict[str, NodeId] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for address in self.section.peers:
            self._targets[address] = _Target((address,), 0.0)

    def handle(self, event: Event, now: float) -> list[Dial]:
        """Take one event, return what to dial now."""
        match event:
            case Known(adverts):
                self._learn(adverts, now)
            case Linked(peer, address):
                self._linked.add(peer)
                if address is not None:
                    self._behind[address] = peer
                for target in (peer, address):
                    if target is not None and target in self._targets:
                        self._targets[target].failures = 0
                        self._targets[target].dialling = False
            case Unlinked(peer):
                self._linked.discard(peer)
                self._again(peer, now)
            case Failed(target):
                self._failed(target, now)
            case Tick():
                pass
        return self._due(now)

    def replaces(self, peer: NodeId, new_dialled: bool, old_dialled: bool, old_age_s: float) -> bool:
        """Whether a new link to `peer` takes the place of the one there is; `…_dialled`: this end dialled it.

        Dialled from the same side, or long after, the new one replaces one that died unseen. Of two that crossed, both
        ends see both and keep the same one: that which the lower id dialled (protocol.md §3).
        """
        if new_dialled == old_dialled or old_age_s > CROSSED_S:
            return True
        return new_dialled == (self.me < peer)

    def next_wakeup(self) -> float | None:
        """The monotonic time of the next dial, None when nothing is wanted."""
        return min((t.due for key, t in self._targets.items() if self._wanted(key, t)), default=None)

    def _learn(self, adverts: Mapping[NodeId, Advert], now: float) -> None:
        for key in [key for key in self._targets if isinstance(key, NodeId) and key not in adverts]:
            del self._targets[key]
        if not self.section.dial_learned or len(adverts) > self.section.full_mesh_nodes:
            return
        for node, advert in adverts.items():
            addresses = tuple(a for a in advert.addresses if not is_loopback(a) or advert.host == self.host)
            if node == self.me or not addresses or advert.gone:
                continue
            target = self._targets.get(node)
            if target is None:
                # A moment's jitter: two nodes that learn of each other at once need not both dial.
                self._targets[node] = _Target(addresses, now + self.rng.uniform(0.0, 0.05))
            elif target.addresses != addresses:
                target.addresses = addresses
                target.due = min(target.due, now)

    def _again(self, peer: NodeId, now: float) -> None:
        for key, target in self._targets.items():
            if key == peer or self._behind.get(key if isinstance(key, str) else "") == peer:
                target.failures = 0
                target.due = now + self.rng.uniform(0.0, self.section.redial_min_s)

    def _failed(self, key: str | NodeId, now: float) -> None:
        target = self._targets.get(key)
        if target is None:
            return
        target.dialling = False
        target.failures += 1
        ceiling = min(self.section.redial_max_s, self.section.redial_min_s * 2.0 ** min(target.failures, 30))
        target.due = now + self.rng.uniform(self.section.redial_min_s, max(self.section.redial_min_s, ceiling))

    def _wanted(self, key: str | NodeId, target: _Target) -> bool:
        peer = key if isinstance(key, NodeId) else self._behind.get(key)
        return not target.dialling and peer not in self._linked and peer != self.me

    def _due(self, now: float) -> list[Dial]:
        dials: list[Dial] = []
        for key, target in self._targets.items():
            if target.due <= now and self._wanted(key, target):
                target.dialling = True
                dials.append(Dial(key, target.addresses))
        return dials


def is_loopback(address: str) -> bool:
    """Whether `host:port` names this very machine."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
