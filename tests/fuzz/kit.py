"""What targets are made of: decisions read from an input, mutations decoded from it, and cuts of a wire.

Plain Python, so that every target runs without a fuzzer too. Not for judging: each target asserts its own contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MUTATIONS = 12
"""Changes of one valid thing: more of them make a thing that has nothing valid left."""


PIECES = 128
"""Of a wire that is cut: what goes wrong goes wrong within fewer, and single bytes of long wires take long."""


class Draw:
    """Decisions, one after another, from the bytes of an input. What is used up decides for zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not used yet."""
        return len(self._data) - self._at

    def number(self, below: int) -> int:
        """0 <= n < `below`, from as few bytes as that needs."""
        width = max(1, ((below - 1).bit_length() + 7) // 8)
        return int.from_bytes(self.take(width), "big") % below

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number(2))

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def some(self, limit: int) -> bytes:
        """Up to `limit` bytes, as many as the input says."""
        return self.take(self.number(limit + 1))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)


def mutate(valid: bytes, draw: Draw) -> bytes:
    """`valid` with the changes that the rest of the input asks for; none where nothing is left."""
    data = bytearray(valid)
    for _ in range(MUTATIONS):
        if not draw.left:
            break
        kind, at = draw.number(8), draw.number(len(data) + 1)
        match kind:
            case 0 if at < len(data):
                data[at] ^= 1 << draw.number(8)
            case 1 if at < len(data):
                data[at] = draw.number(256)
            case 2:
                data[at:at] = draw.some(32)
            case 3:
                del data[at : at + 1 + draw.number(64)]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = data[draw.number(len(data) + 1) :][: draw.number(256)]
            case 6:
                data[at : at + 4] = b"\xff" * 4
            case _:
                piece = draw.some(16)
                data[at : at + len(piece)] = piece
    return bytes(data)


def cut(wire: bytes, pattern: bytes) -> Iterator[bytes]:
    """`wire` in pieces: each byte of `pattern`, in turn, says how long the next is (1 to 4,065 bytes). Without a
    pattern at once, and so is what is left after many."""
    at = number = 0
    while at < len(wire):
        byte = pattern[number % len(pattern)] if pattern else 0
        size = 1 + byte * byte // 16 if pattern and number < PIECES else len(wire)
        yield wire[at : at + size]
        at += size
        number += 1


def refused(call: Callable[[], Any], *kinds: type[Exception]) -> Exception | None:
    """The documented error that `call` raised, or None. Any other error is a finding, and passes."""
    try:
        call()
    except kinds as error:
        return error
    return None


def in_words(error: Exception) -> None:
    """An error is for people: it says something, and not a peer's novel."""
    assert 0 < len(str(error)) < 1000


def finish(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise AssertionError("this would wait for ever")
