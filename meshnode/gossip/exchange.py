"""One round of anti-entropy as questions to the table: what to list, what is newer there, what is newer here.

Not for when to ask and whom (rounds.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from meshnode.gossip.messages import Carried, Version, Versions
from meshnode.gossip.table import Entry, State, Table
from meshnode.model.ids import NodeId

_ROUNDING_S = 1e-3
"""(now + 180) - now is a little less than 180; a second lost at each hop would add up."""


def listing(table: Table, buckets: Iterable[int]) -> Iterator[tuple[int, list[Version]]]:
    """The versions of each bucket."""
    for bucket in buckets:
        entries = map(table.entry, table.digests.members(bucket))
        yield bucket, [Version(entry.node, *entry.order) for entry in entries]


def compare(
    table: Table, theirs: Versions, unwanted: Mapping[NodeId, tuple[int, int]]
) -> tuple[list[NodeId], list[Entry]]:
    """Which nodes' adverts are newer there, and which entries are newer here. Up to the order in `unwanted`, those of
    a node are not asked for."""
    wanted: list[NodeId] = []
    newer: list[Entry] = []
    for version in theirs.known:
        order = (version.incarnation, version.sequence)
        entry = table.get(NodeId(version.id))
        if entry is None or entry.order < order:
            if order > unwanted.get(NodeId(version.id), (-1, -1)):
                wanted.append(NodeId(version.id))
        elif entry.order > order:
            newer.append(entry)
    listed = {version.id for version in theirs.known}
    for bucket in sorted(set(theirs.whole)):
        newer += [table.entry(node) for node in table.digests.members(bucket) if node not in listed]
    return wanted, newer


def carried(entries: Iterable[Entry], now: float) -> Iterator[Carried]:
    """The entries as they travel, with what is left of them. What ends within this second stays here."""
    for entry in entries:
        left_s = 0 if entry.state is State.OVER else math.floor(entry.until - now + _ROUNDING_S)
        if left_s > 0 or entry.state is State.OVER:
            yield Carried(entry.signed, min(left_s, 86_400))
