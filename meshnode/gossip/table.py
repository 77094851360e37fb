"""The newest advert of every node: living, tombstone, or over and remembered. Merging them in any order ends equal.

A lifetime counts from receipt on the monotonic clock. What is over is remembered for `tombstone_s`, so that a copy
still travelling resurrects nobody, and so that a node that lost its counter can be shown how far it had counted.
Not for signatures nor rates (intake.py).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from meshnode.config.gossip import GossipSection
from meshnode.gossip.digest import Digests
from meshnode.gossip.rates import Bucket
from meshnode.gossip.wheel import Wheel
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId


class State(enum.Enum):
    LIVING = enum.auto()
    GONE = enum.auto()
    """Its node left: the tombstone is spread like news."""
    OVER = enum.auto()
    """Its lifetime ended: kept as memory, not spread."""


class Standing(enum.Enum):
    """How an advert stands to what is known of its node."""

    NEWER = enum.auto()
    SAME = enum.auto()
    OLDER = enum.auto()
    CONFLICT = enum.auto()
    """The same order in other bytes."""
    FULL = enum.auto()
    """New, but the table holds as many nodes as it may."""


@dataclass(slots=True)
class Entry:
    """What is kept of a node. `until` ends its state; `latest` bounds what copies may still add to `until`."""

    node: NodeId
    order: tuple[int, int]
    signed: SignedAdvert
    state: State
    until: float
    latest: float
    rate: Bucket


@dataclass(slots=True)
class Table:
    """At most `section.nodes` living nodes, and as many again that are gone or over, the oldest dropped first."""

    section: GossipSection
    digests: Digests = field(default_factory=Digests)
    _entries: dict[NodeId, Entry] = field(default_factory=dict)
    _by_body: dict[bytes, Entry] = field(default_factory=dict)
    _living: dict[NodeId, Advert] = field(default_factory=dict)
    _ended: dict[NodeId, None] = field(default_factory=dict)
    _wheel: Wheel = field(default_factory=Wheel)

    def get(self, node: NodeId) -> Entry | None:
        """What is known of `node`."""
        return self._entries.get(node)

    def entry(self, node: NodeId) -> Entry:
        """What is known of a node that is known."""
        return self._entries[node]

    def advert(self, node: NodeId) -> Advert | None:
        """What a living node says of itself."""
        return self._living.get(node)

    @property
    def count(self) -> int:
        """How many nodes live, as far as `expire` has been told."""
        return len(self._living)

    def holder(self, body: bytes) -> Entry | None:
        """The entry whose newest advert is exactly these bytes: spares reading them again."""
        return self._by_body.get(body)

    def living(self, now: float) -> Mapping[NodeId, Advert]:
        """A snapshot of every living node's advert, exact where `expire` is up to a second late. O(nodes)."""
        return {node: advert for node, advert in self._living.items() if self._entries[node].until > now}

    def spread(self) -> list[Entry]:
        """Everything that other nodes should know: living and gone. O(nodes)."""
        return [entry for entry in self._entries.values() if entry.state is not State.OVER]

    def next_due(self) -> float | None:
        """When `expire` has something to do."""
        return self._wheel.next()

    def standing(self, advert: Advert, body: bytes, left_s: float, now: float) -> Standing:
        """What `merge` would find; changes nothing."""
        entry = self._entries.get(advert.node)
        if entry is not None:
            if advert.order < entry.order:
                return Standing.OLDER
            if advert.order == entry.order and body != entry.signed.body:
                return Standing.CONFLICT
            if advert.order == entry.order and not self.unlived(entry, left_s, now):
                return Standing.SAME
        takes_room = not advert.gone and advert.node not in self._living
        return Standing.FULL if takes_room and len(self._living) >= self.section.nodes else Standing.NEWER

    def unlived(self, entry: Entry, left_s: float, now: float) -> bool:
        """Whether `entry` was already over when it came, and this copy is not: who tells first that an advert is over
        must not silence its node. What ended here stays ended."""
        return entry.state is State.OVER and min(entry.latest, now + left_s) > now

    def merge(self, advert: Advert, signed: SignedAdvert, left_s: float, now: float) -> tuple[Standing, bool]:
        """Take in an advert whose signature is good. Returns its standing, and whether the view of its node changed."""
        standing = self.standing(advert, signed.body, left_s, now)
        if standing is Standing.NEWER:
            return standing, self.put(advert, signed, left_s, now)
        if standing is Standing.SAME:
            self.prolong(self._entries[advert.node], left_s, now)
        return standing, False

    def prolong(self, entry: Entry, left_s: float, now: float) -> None:
        """A copy with more time left arrived: believe it, up to the lifetime counted from the first receipt.

        The bound makes two nodes unable to keep an advert alive by telling each other, whatever the delay between
        them; believing the longest makes a copy with a false short lifetime harmless once an honest one arrives.
        """
        until = min(entry.latest, now + left_s)
        if entry.state is not State.OVER and until > entry.until > now:
            entry.until = until
            self._wheel.put(entry.node, until, now)

    def expire(self, now: float) -> list[NodeId]:
        """End what is due. Returns the nodes that were living."""
        ended: list[NodeId] = []
        for node in self._wheel.due(now):
            entry = self._entries.get(node)
            if entry is None:  # dropped for want of room by one that ended a moment earlier in this loop
                continue
            if entry.state is State.OVER:
                self._drop(entry)
                continue
            if entry.state is State.LIVING:
                ended.append(node)
            entry.latest = now
            self._end(entry, now)
        return ended

    def put(self, advert: Advert, signed: SignedAdvert, left_s: float, now: float) -> bool:
        """Put an advert in its node's place whatever stood there: `merge` for newer ones, and this node's own.
        Returns whether the view of the node changed."""
        node = advert.node
        before = self._living.get(node)
        old = self._entries.get(node)
        if old is not None:
            self._drop(old)
        longest = float(min(advert.lifetime_s, self.section.tombstone_s)) if advert.gone else float(advert.lifetime_s)
        latest = old.latest if old is not None and old.order == advert.order else now + longest
        until = min(now + left_s, latest)
        rate = old.rate if old is not None else Bucket(self.section.advert_burst, self.section.advert_refill_s)
        state = State.GONE if advert.gone else State.LIVING
        entry = Entry(node, advert.order, signed, state, until, latest, rate)
        self._entries[node] = entry
        self._by_body[signed.body] = entry
        self.digests.add(node, entry.order)
        self._wheel.put(node, until, now)
        if state is State.LIVING:
            self._living[node] = advert
        else:
            self._bury(node)
        if until <= now:
            self._end(entry, now)
        return not _says_same(before, self._living.get(node))

    def drop(self, node: NodeId) -> None:
        """Know nothing of `node` any more; nothing happens where it is unknown."""
        entry = self._entries.get(node)
        if entry is not None:
            self._drop(entry)

    def _end(self, entry: Entry, now: float) -> None:
        entry.state = State.OVER
        entry.until = now + self.section.tombstone_s
        self._living.pop(entry.node, None)
        self.digests.remove(entry.node, entry.order)
        self._wheel.put(entry.node, entry.until, now)
        self._bury(entry.node)

    def _bury(self, node: NodeId) -> None:
        self._ended.pop(node, None)
        self._ended[node] = None
        if len(self._ended) > self.section.nodes:
            self._drop(self._entries[next(iter(self._ended))])

    def _drop(self, entry: Entry) -> None:
        if entry.state is not State.OVER:
            self.digests.remove(entry.node, entry.order)
        self._wheel.remove(entry.node)
        self._living.pop(entry.node, None)
        self._ended.pop(entry.node, None)
        del self._by_body[entry.signed.body]
        del self._entries[entry.node]


def _says_same(before: Advert | None, after: Advert | None) -> bool:
    """Whether two adverts of one node differ in nothing but their sequence and lifetime."""
    if before is None or after is None:
        return before is after
    return msgspec.structs.replace(before, sequence=after.sequence, lifetime_s=after.lifetime_s) == after
