"""Received bytes that nobody has read yet, and whose are the oldest: what bounds the memory of one link.

Credit bounds each stream alone; a thousand of them may fill at once. Not for resetting streams (incoming.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.mux.events import StreamKey
from meshnode.mux.streams import Stream


class Unread:
    """`total` is all of `Stream.unread`, `limit_bytes` the most there should be.

    Both are counted where bytes come (incoming.py) and go (`Mux.credit`): a call of a method for each chunk would cost
    a link two percent.
    """

    __slots__ = ("_late", "limit_bytes", "total")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.total = 0
        # Streams that are over, with bytes that are in memory all the same.
        self._late: dict[StreamKey, Stream] = {}

    def over(self, stream: Stream) -> None:
        """The stream is over; its reader may go on."""
        if stream.unread:
            self._late[stream.key] = stream

    def late(self, key: StreamKey) -> Stream | None:
        """A stream that is over and has not been read to its end."""
        return self._late.get(key)

    def read_late(self, key: StreamKey, size: int) -> None:
        """The reader of a stream that is over took so many."""
        if (stream := self._late.get(key)) is not None:
            stream.unread -= size
            self.total -= size
            if stream.unread <= 0:
                del self._late[key]

    def forget(self, stream: Stream) -> None:
        """Nobody will read what is left."""
        self.total -= stream.unread
        stream.unread = 0
        self._late.pop(stream.key, None)

    def longest(self, running: Iterable[Stream]) -> Stream | None:
        """Of these and those that are over, the one that has been unread longest."""
        waiting = [stream for stream in (*running, *self._late.values()) if stream.unread]
        return min(waiting, key=lambda stream: stream.unread_since, default=None)
