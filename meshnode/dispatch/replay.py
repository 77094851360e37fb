"""The pieces of an answer that several read, from its start for as long as they fit into a bounded memory. Pure.

Past the bound the oldest pieces go: whoever has not read them has fallen behind, and nobody new can begin. Counterpart:
shared.py, which reads ahead for the quickest.
"""

from __future__ import annotations

from collections import deque

from meshnode.errors import FellBehind

AHEAD_BYTES = 64 * 1024
"""Read before the quickest reader asks: a task that is woken for each token would cost more than the token."""


class Pool:
    """What all replays together hold: at most `most_bytes`, but for what nobody has read of each."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0


class Replay:
    """Pieces counted from 0. `ended` is how many came."""

    def __init__(self, pool: Pool, most_bytes: int) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self.most_ahead_bytes = min(AHEAD_BYTES, most_bytes // 2)
        self._pieces: deque[bytes] = deque()
        self.held_bytes = 0
        self._first = 0

    @property
    def came(self) -> int:
        """How many pieces there have been."""
        return self._first + len(self._pieces)

    @property
    def from_start(self) -> bool:
        """Whether all that came is still here."""
        return self._first == 0

    @property
    def last(self) -> bytes:
        """The newest piece."""
        return self._pieces[-1] if self._pieces else b""

    def add(self, piece: bytes, taken: int) -> None:
        """One more. While there is too much the oldest go, of those `taken` that some reader has had."""
        self._pieces.append(piece)
        self._count(len(piece))
        while len(self._pieces) > 1 and self._first < taken and self._too_much():
            self._forget()

    def at(self, number: int) -> bytes | None:
        """Piece `number`; None while it has not come. Raises FellBehind for one that is gone."""
        if number < self._first:
            raise FellBehind("this answer is shared with quicker readers, and what was not read in time is gone")
        return self._pieces[number - self._first] if number < self.came else None

    def drop(self) -> None:
        """Nobody will read it any more."""
        while self._pieces:
            self._forget()

    def _too_much(self) -> bool:
        return self.held_bytes > self._most_bytes or self._pool.held_bytes > self._pool.most_bytes

    def _forget(self) -> None:
        self._count(-len(self._pieces.popleft()))
        self._first += 1

    def _count(self, size: int) -> None:
        self.held_bytes += size
        self._pool.held_bytes += size
