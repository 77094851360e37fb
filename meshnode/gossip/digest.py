"""256 sums over what is known, kept up to date with each change, so that comparing two tables costs 2 KiB.

A bucket's sum is AdHash (Bellare and Micciancio 1997, "A New Paradigm for Collision-Free Hashing"): the sum modulo
2^64 of the hashes of its (id, incarnation, sequence). Not for the adverts themselves (table.py).
"""

from __future__ import annotations

import hashlib
import struct

from meshnode.model.ids import NodeId

BUCKETS = 256
_MASK = 2**64 - 1
_SUMS = struct.Struct(f">{BUCKETS}Q")
DIGEST_BYTES = _SUMS.size


def bucket_of(node: bytes) -> int:
    """The bucket of a node: the first byte of its key, which is as good as random."""
    return node[0]


class Digests:
    """The nodes and the sum of each bucket. Every operation is O(1) save `packed`, which is kept until a change."""

    def __init__(self) -> None:
        self._sums = [0] * BUCKETS
        self._members: list[set[NodeId]] = [set() for _ in range(BUCKETS)]
        self._packed: bytes | None = None

    def add(self, node: NodeId, order: tuple[int, int]) -> None:
        """Count `node` at `order`; it is not counted yet."""
        self._members[bucket_of(node)].add(node)
        self._shift(node, _hash(node, order))

    def remove(self, node: NodeId, order: tuple[int, int]) -> None:
        """Undo `add` of the same two."""
        self._members[bucket_of(node)].discard(node)
        self._shift(node, -_hash(node, order))

    def members(self, bucket: int) -> list[NodeId]:
        """The nodes counted in `bucket`, sorted, so that equal runs stay equal."""
        return sorted(self._members[bucket])

    def packed(self) -> bytes:
        """All sums as they travel: big-endian, 8 bytes each."""
        if self._packed is None:
            self._packed = _SUMS.pack(*self._sums)
        return self._packed

    def differing(self, theirs: bytes) -> list[int]:
        """The buckets whose sums differ from another node's `packed`, which has `DIGEST_BYTES`."""
        if theirs == self.packed():
            return []
        return [
            b for b, (mine, other) in enumerate(zip(self._sums, _SUMS.unpack(theirs), strict=True)) if mine != other
        ]

    def _shift(self, node: NodeId, by: int) -> None:
        bucket = bucket_of(node)
        self._sums[bucket] = (self._sums[bucket] + by) & _MASK
        self._packed = None


def _hash(node: NodeId, order: tuple[int, int]) -> int:
    data = node + order[0].to_bytes(8, "big") + order[1].to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
