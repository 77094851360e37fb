"""What one stream still has to send: bytes in the order they came, then perhaps an end. Not for credit (mux.py)."""

from __future__ import annotations

from collections import deque


class Outgoing:
    """A queue of bytes with an end.

    `size` is the bytes in it, `ending` the trailers that follow them (empty: none) or None while more may come,
    `waiting` whether the stream stands in the Mux's line.
    """

    __slots__ = ("_chunks", "ending", "size", "waiting")

    def __init__(self) -> None:
        self._chunks: deque[bytes | memoryview] = deque()
        self.size = 0
        self.ending: list[tuple[bytes, bytes]] | None = None
        self.waiting = False

    def put(self, data: bytes) -> None:
        """Append bytes."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Nothing comes after what is queued but these."""
        self.ending = trailers

    def take(self, count: int) -> bytes:
        """Up to `count` of the first bytes, joined."""
        if count >= self.size:
            return self._take_all()
        taken: list[bytes | memoryview] = []
        left = max(0, count)
        while left:
            chunk = self._chunks.popleft()
            if len(chunk) > left:
                # Views, so that a long body is not copied once for each frame cut from it.
                view = memoryview(chunk)
                self._chunks.appendleft(view[left:])
                chunk = view[:left]
            taken.append(chunk)
            left -= len(chunk)
        data = b"".join(taken)
        self.size -= len(data)
        return data

    def drop(self) -> int:
        """Forget the bytes; how many they were."""
        size = self.size
        self._chunks.clear()
        self.size = 0
        return size

    def _take_all(self) -> bytes:
        first = self._chunks[0] if self._chunks else b""
        data = first if len(self._chunks) == 1 and isinstance(first, bytes) else b"".join(self._chunks)
        self.drop()
        return data
