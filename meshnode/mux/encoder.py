"""An HPACK encoder (RFC 7541) for links: a block costs microseconds, because only what repeats is indexed.

The `hpack` package indexes every header and searches its table line by line; job ids and deadlines, which never come
again, fill that table and push out what does. Here a pair is indexed when it comes a second time, found by a dict, and
never Huffman-coded: that saves a few bytes and costs more than all the rest. Counterpart: hpack's decoder, at the peer.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.table import HeaderTable

MAX_TABLE_BYTES = 4096
"""The default of SETTINGS_HEADER_TABLE_SIZE, which a decoder keeps unless told less."""

ENTRY_BYTES = 32
"""What an entry of the table counts beside its name and value (§4.1)."""

MAX_ONCE = 256
"""Pairs remembered as seen once; then forgotten all together."""

_STATIC = {pair: bytes([0x80 | number]) for number, pair in enumerate(HeaderTable.STATIC_TABLE, 1)}
_FIRST_DYNAMIC = len(HeaderTable.STATIC_TABLE) + 1

_INDEXED, _TABLE_SIZE = 0x80, 0x20
_INCREMENTAL, _LITERAL = b"\x40", b"\x00"

Pair = tuple[bytes, bytes]


class BlockEncoder:
    """What h2 wants of an encoder: `encode`, and `header_table_size` to be told the peer's limit."""

    def __init__(self) -> None:
        # Pair -> how many were added before it. Entries are never pushed out: a full table is emptied.
        self._table: dict[Pair, int] = {}
        self._bytes = 0
        self._limit = MAX_TABLE_BYTES
        self._once: set[Pair] = set()
        self._start_over = False

    @property
    def header_table_size(self) -> int:
        """Bytes of table in use at most."""
        return self._limit

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self._limit = min(value, MAX_TABLE_BYTES)
        self._start_over = True

    def encode(self, headers: Iterable[Pair]) -> bytes:
        """A header block. Names and values are bytes."""
        out: list[bytes] = []
        if self._start_over:
            # §4.2: the size may change at the start of a block only. Down to nothing empties the table.
            out = [_integer(_TABLE_SIZE, 5, 0), _integer(_TABLE_SIZE, 5, self._limit)]
            self._table.clear()
            self._bytes = 0
            self._start_over = False
        for pair in headers:
            static = _STATIC.get(pair)
            if static is not None:
                out.append(static)
            elif (before := self._table.get(pair)) is not None:
                # §2.3.3: the newest entry has the lowest index.
                out.append(_integer(_INDEXED, 7, _FIRST_DYNAMIC + len(self._table) - 1 - before))
            else:
                name, value = pair
                kind = _INCREMENTAL if self._index(pair) else _LITERAL
                out += (kind, _integer(0, 7, len(name)), name, _integer(0, 7, len(value)), value)
        return b"".join(out)

    def _index(self, pair: Pair) -> bool:
        """Whether to put a new pair into the table: when it comes again, and there is room."""
        if pair not in self._once:
            if len(self._once) >= MAX_ONCE:
                self._once.clear()
            self._once.add(pair)
            return False
        size = len(pair[0]) + len(pair[1]) + ENTRY_BYTES
        if self._bytes + size > self._limit:
            # Full of what was common once; what cannot fit at all must not empty it.
            self._start_over = size <= self._limit // 4
            return False
        self._once.discard(pair)
        self._table[pair] = len(self._table)
        self._bytes += size
        return True


def _integer(flags: int, bits: int, value: int) -> bytes:
    """§5.1: an integer in what `bits` leave of the first byte, and as many bytes more as it needs."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    out = bytearray((flags | most,))
    value -= most
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)
