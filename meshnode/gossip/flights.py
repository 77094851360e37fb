"""Dials under way: so many at once, never two to one address or peer, those that wait longest first. Pure.

Not for what falls due when (dialling.py, targets.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshnode.gossip.overlay_events import Dial
from meshnode.gossip.targets import Key, Kind
from meshnode.model.ids import NodeId

HINT_SHARE = 4
"""Hints have this part of the dials under way: strangers' addresses may hang, members do not wait for them."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A target that has been due since `at`; `peer` is who is expected there, as far as that is known."""

    at: float
    key: Key
    kind: Kind
    peer: NodeId | None
    where: tuple[str, ...]


class Flights:
    """At most `most` dials under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: dict[Key, Ready] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._under_way

    def landed(self, key: Key) -> None:
        """The dial to this target has ended."""
        self._under_way.pop(key, None)

    def start(self, ready: Iterable[Ready]) -> Iterator[Dial]:
        """Those to dial now. Of what must wait, each has its turn: nobody's head start is without end."""
        for one in sorted(ready, key=lambda one: one.at + one.kind.value):
            if len(self._under_way) >= self._most:
                return
            if one.where and not self._in_the_way(one):
                self._under_way[one.key] = one
                yield Dial(one.key, one.where)

    def _in_the_way(self, one: Ready) -> bool:
        others = self._under_way.values()
        if one.kind is Kind.HINT:
            hints = sum(other.kind is Kind.HINT for other in others)
            if hints >= max(1, self._most // HINT_SHARE):
                return True
        same_peer = one.peer is not None and any(other.peer == one.peer for other in others)
        return same_peer or any(not set(one.where).isdisjoint(other.where) for other in others)
