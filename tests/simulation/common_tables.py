"""Tables of thousands of nodes that know the same: one copy of what all know, and per node what it knows otherwise.

The table, its wheel and its digests stay the real ones; only the maps they write into are others, which copy what they
change. A test compares such a table with one into which everything was put. Not for filling it (world.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, MutableSet
from typing import Any, TypeVar

from meshnode.gossip.rates import Bucket
from meshnode.gossip.table import Entry, Table
from meshnode.model.ids import NodeId

K = TypeVar("K")
V = TypeVar("V")

_ABSENT: Any = object()
_NONE: frozenset[NodeId] = frozenset()


class Layered(MutableMapping[K, V]):
    """A map over `common`, which it never changes."""

    __slots__ = ("_common", "_count", "_hidden", "_own")

    def __init__(self, common: Mapping[K, V]) -> None:
        self._common = common
        self._own: dict[K, V] = {}
        self._hidden: set[K] = set()
        self._count = len(common)

    def _find(self, key: Any) -> Any:
        found = self._own.get(key, _ABSENT)
        if found is not _ABSENT or key in self._hidden:
            return found
        return self._common.get(key, _ABSENT)

    def get(self, key: K, default: Any = None) -> Any:
        """As of a dict."""
        found = self._find(key)
        return default if found is _ABSENT else found

    def __getitem__(self, key: K) -> V:
        found: V = self._find(key)
        if found is _ABSENT:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not _ABSENT

    def __setitem__(self, key: K, value: V) -> None:
        if self._find(key) is _ABSENT:
            self._count += 1
            self._hidden.discard(key)
        self._own[key] = value

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def pop(self, key: K, default: Any = _ABSENT) -> Any:
        """As of a dict."""
        found = self._find(key)
        if found is _ABSENT:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        self._own.pop(key, None)
        if key in self._common:
            self._hidden.add(key)
        self._count -= 1
        return found

    def __iter__(self) -> Iterator[K]:
        yield from self._own
        yield from (key for key in self._common if key not in self._own and key not in self._hidden)

    def __len__(self) -> int:
        return self._count


class LayeredSet(MutableSet[NodeId]):
    """A set over `common`, which it never changes. A node has hundreds, most of which are never written."""

    __slots__ = ("_common", "_gone", "_more")

    def __init__(self, common: frozenset[NodeId]) -> None:
        self._common = common
        self._more: set[NodeId] | None = None
        self._gone: set[NodeId] | None = None

    def __contains__(self, node: object) -> bool:
        return node in (self._more or ()) or (node in self._common and node not in (self._gone or ()))

    def __iter__(self) -> Iterator[NodeId]:
        yield from self._more or ()
        yield from self._common.difference(self._gone or ())

    def __len__(self) -> int:
        return len(self._common) - len(self._gone or ()) + len(self._more or ())

    def add(self, node: NodeId) -> None:
        """As of a set."""
        if node not in self._common:
            self._more = self._more or set()
            self._more.add(node)
        elif self._gone is not None:
            self._gone.discard(node)
            self._gone = self._gone or None

    def discard(self, node: NodeId) -> None:
        """As of a set."""
        if node in self._common:
            self._gone = self._gone or set()
            self._gone.add(node)
        elif self._more is not None:
            self._more.discard(node)
            self._more = self._more or None


class Entries(Layered[NodeId, Entry]):
    """`get` is what the table asks before it changes an entry: it gives this node's own. `[]` and `peek` only read."""

    __slots__ = ("_bodies",)

    def __init__(self, common: Mapping[NodeId, Entry], bodies: MutableMapping[bytes, Entry]) -> None:
        super().__init__(common)
        self._bodies = bodies

    def peek(self, node: NodeId) -> Entry | None:
        """The entry, which is not to be changed."""
        found: Entry | None = super().get(node)
        return found

    def get(self, node: NodeId, default: Any = None) -> Any:
        """The entry, which may be changed."""
        found = self._find(node)
        if found is _ABSENT or node in self._own:
            return default if found is _ABSENT else found
        rate = Bucket(found.rate.burst, found.rate.refill_s)
        own = Entry(node, found.order, found.signed, found.state, found.until, found.latest, rate)
        self[node] = self._bodies[own.signed.body] = own
        return own


class Common:
    """What `table` knows, to be adopted by many. The table must change no more, and nobody may have ended in it."""

    def __init__(self, table: Table) -> None:
        self.living, self.entries, self.bodies = table._living, table._entries, table._by_body
        self.sums = table.digests._sums
        self.members = [frozenset(members) for members in table.digests._members]
        self.slot_of, self.times = table._wheel._slot_of, table._wheel._times
        self.slots = {at: frozenset(nodes) for at, nodes in table._wheel._slots.items()}


class CommonTable(Table):
    """A table that can be made to know what is common at once."""

    __slots__ = ()

    def adopt(self, common: Common) -> None:
        """Forget everything, and know that, which was put at this time of this clock."""
        self._living = Layered(common.living)  # type: ignore[assignment]
        self._by_body = Layered(common.bodies)  # type: ignore[assignment]
        self._entries = Entries(common.entries, self._by_body)  # type: ignore[assignment]
        self.digests._sums = list(common.sums)
        self.digests._members = [LayeredSet(members) for members in common.members]  # type: ignore[misc]
        self.digests._packed = None
        self._wheel._slot_of = Layered(common.slot_of)  # type: ignore[assignment]
        self._wheel._times = list(common.times)
        self._wheel._slots = {at: LayeredSet(nodes) for at, nodes in common.slots.items()}  # type: ignore[misc]

    def get(self, node: NodeId) -> Entry | None:
        """What is known of `node`; whoever asks only reads it."""
        return self._entries.peek(node) if isinstance(self._entries, Entries) else self._entries.get(node)

    def prolong(self, entry: Entry, left_s: float, now: float) -> None:
        """As of any table, on an entry of this node's own where that changes."""
        if min(entry.latest, now + left_s) > entry.until:
            entry = self._entries.get(entry.node, entry)
        super().prolong(entry, left_s, now)
