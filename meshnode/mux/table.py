"""The streams of one link by their names, and their line before the pipe. The rules are in mux.py and incoming.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from meshnode.mux.events import StreamKey
from meshnode.mux.streams import Half, Stream
from meshnode.mux.unread import Unread


class Table:
    """The streams that are not over, and those with something to send in their line.

    `queued` is the bytes that wait to be sent, `sent` those that were, `unread` those that came; `opened` counts
    streams by whether this side opened them. `leaving` and `peer_leaving`: that side takes no new streams.
    """

    __slots__ = ("_by_key", "get", "leaving", "opened", "peer_leaving", "queued", "ready", "sent", "unread")

    def __init__(self, unread: Unread) -> None:
        self.unread = unread
        self._by_key: dict[StreamKey, Stream] = {}
        # The stream of a name, None when it is over; the dict's own method, since each chunk asks three times.
        self.get = self._by_key.get
        self.ready: deque[Stream] = deque()
        self.opened = {True: 0, False: 0}
        self.queued = self.sent = 0
        self.leaving = self.peer_leaving = False

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._by_key.values())

    def find(self, half: Half, number: int) -> Stream | None:
        """The stream of this HTTP/2 id on one of the connections."""
        return self._by_key.get(StreamKey(number << 1 | half.tag[0]))

    def of(self, half: Half) -> Iterator[Stream]:
        """Every stream of one of the connections."""
        return (stream for stream in self._by_key.values() if stream.half is half)

    def add(self, number: int, half: Half) -> Stream:
        """A new stream."""
        stream = Stream(StreamKey(number << 1 | half.tag[0]), half)
        self._by_key[stream.key] = stream
        self.opened[half.mine] += 1
        return stream

    def make_ready(self, stream: Stream) -> None:
        """Put a stream at the end of the line, unless it stands there."""
        if not stream.out.waiting:
            stream.out.waiting = True
            self.ready.append(stream)

    def remove(self, stream: Stream) -> None:
        """The stream is over; what it had queued is dropped."""
        if self._by_key.pop(stream.key, None) is not None:
            self.opened[stream.half.mine] -= 1
            self.queued -= stream.out.drop()
            self.unread.over(stream)
            if stream.out.waiting:
                self.ready.remove(stream)

    def remove_if_done(self, stream: Stream) -> None:
        """Both directions may have ended."""
        if stream.local_done and stream.remote_done:
            self.remove(stream)
