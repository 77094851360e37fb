"""Many streams on one pipe of records, as a machine: what a link's tasks call, and nothing that waits.

A link has two HTTP/2 connections, one for the dialer's requests and one for the listener's, told apart by the first
byte of each record; each is plain RFC 9113. Bytes to send stay here, per stream, until the writer comes for them: so
frames are as large as the pipe is slow, and streams take turns. Not for what arrives (incoming.py), for sealing (noise)
nor for tasks (net.link).
"""

from __future__ import annotations

from h2.exceptions import NoAvailableStreamIDError, TooManyStreamsError

from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkClosed, ProtocolViolation, StreamReset
from meshnode.mux import headers as blocks
from meshnode.mux.events import NO_ERROR, REFUSED_STREAM, Event, Headers, StreamKey
from meshnode.mux.frames import MAX_FRAME_BYTES
from meshnode.mux.incoming import Incoming
from meshnode.mux.streams import Half, Stream
from meshnode.mux.table import Table
from meshnode.mux.unread import Unread

RECORD_BYTES = 65_519 - 1
"""What a Noise record holds (noise.transport) beside the byte that names the connection."""

FLUSH_BYTES = 64 * 1024
"""Body bytes taken at once: a message of gossip never stands behind more than this."""

PAD_BYTES = 256
"""DATA of a padded stream has a multiple of this, the pad length's own byte included: token lengths leak text
(protocol.md §6). A pad can have 255 bytes (RFC 9113 §6.1), so that every multiple can be reached."""


_PROCESSING = (b":status", b"102")
_MUTE = (blocks.MUTE.encode(), b"1")


class Mux:
    """Both ends' streams on one link.

    Raises ProtocolViolation from `receive` when the peer breaks a rule, and from every call after that.
    """

    def __init__(self, initiator: bool, section: MeshSection) -> None:
        """`initiator`: this end dialled. `section` gives windows, stream limit, buffer and budgets."""
        self._halves = tuple(Half(tag, mine=(tag == 0) == initiator, section=section) for tag in (0, 1))
        self._mine = self._halves[0 if initiator else 1]
        self._unread = Unread(section.link_buffer_bytes)
        self._table = Table(self._unread)
        self._incoming = Incoming(self._halves, self._table, section)
        self._limit = section.streams
        self._credit_bytes = max(1, section.stream_window_bytes // 2)
        self._dead = False

    # What the shell asks for.

    def open(self, headers: Headers, end: bool) -> StreamKey:
        """Open a stream with a request's head; `end`: no body follows.

        Raises StreamReset (REFUSED_STREAM) when too many are open, LinkClosed when either side is leaving, BadRequest
        for headers that cannot travel.
        """
        self._alive()
        if self._table.leaving or self._table.peer_leaving:
            raise LinkClosed("the link takes no new streams")
        block = blocks.outgoing(headers, blocks.REQUEST)
        if self._table.opened[True] >= self._limit:
            raise StreamReset(f"{self._limit} streams are open on this link", REFUSED_STREAM)
        connection = self._mine.connection
        try:
            number = connection.get_next_available_stream_id()
            connection.send_headers(number, block, end_stream=end)
        except TooManyStreamsError as error:
            raise StreamReset("the peer allows no more streams", REFUSED_STREAM) from error
        except NoAvailableStreamIDError as error:
            self._table.peer_leaving = True
            raise LinkClosed("the link has used every stream id") from error
        stream = self._table.add(number, self._mine)
        stream.local_done = end
        return stream.key

    def send_head(self, key: StreamKey, headers: Headers) -> None:
        """The head of the answer on a stream the peer opened. Raises BadRequest, StreamReset when it is over."""
        stream = self._stream(key)
        if stream.head_sent:
            raise ValueError("the head has been sent")
        block = blocks.outgoing(headers, blocks.RESPONSE)
        stream.head_sent = True
        stream.half.connection.send_headers(stream.id, block)

    def beat(self, key: StreamKey, place: int = 0, *, mute: bool = False) -> None:
        """Tell the peer that what it asked for is being worked at: 102 before the head (RFC 2518 §10.1), with the place
        where it waits in a queue, or that its engine is `mute`; after it DATA of no bytes, which needs no credit and
        overtakes what is queued. Raises StreamReset when the stream is over."""
        stream = self._stream(key)
        connection = stream.half.connection
        if not stream.head_sent:
            connection.send_headers(stream.id, [_PROCESSING, *blocks.place(place), *((_MUTE,) if mute else ())])
        elif connection.local_flow_control_window(stream.id) >= 0:
            # h2 takes a window that the peer has shrunk below nothing for too small even for that.
            connection.send_data(stream.id, b"")

    def send(self, key: StreamKey, data: bytes) -> None:
        """Queue bytes of a body, which should not be more than `window(key)`. Raises StreamReset when it is over."""
        stream = self._stream(key)
        if not stream.head_sent:
            raise ValueError("a body before its head")
        stream.out.put(data)
        self._table.queued += len(data)
        self._table.make_ready(stream)

    def pad(self, key: StreamKey) -> None:
        """Pad every DATA frame of this side from now on. Raises StreamReset when the stream is over."""
        self._stream(key).padded = True

    def window(self, key: StreamKey) -> int:
        """Bytes that `send` may take now; 0 until a Writable. Negative after the peer shrank its windows."""
        stream = self._stream(key)
        return stream.half.connection.local_flow_control_window(stream.id) - stream.out.size

    def finish(self, key: StreamKey, trailers: Headers = ()) -> None:
        """Nothing more will be sent; `trailers` go after what is queued. Raises BadRequest, StreamReset."""
        stream = self._stream(key)
        if not stream.head_sent:
            raise ValueError("an end before its head")
        stream.out.finish(blocks.outgoing(trailers, blocks.TRAILERS))
        self._table.make_ready(stream)

    def reset(self, key: StreamKey, code: int) -> None:
        """End a stream, both directions; nothing happens to one that is over. What was queued is dropped, but
        NO_ERROR lets a finished answer go out first."""
        self.drop(key)
        stream = self._table.get(key)
        if stream is None or self._dead:
            return
        if code == NO_ERROR and stream.out.ending is not None and not stream.local_done:
            stream.then_reset = code
            return
        stream.half.connection.reset_stream(stream.id, code)
        self._table.remove(stream)
        self._incoming.expect_strays()

    def credit(self, key: StreamKey, flow: int) -> bool:
        """The reader took what cost `flow` bytes of the stream's window (Data.flow, summed). True: there is something
        to send now."""
        stream = self._table.get(key)
        if stream is None:
            self._unread.read_late(key, flow)
            return False
        stream.unread -= flow
        self._unread.total -= flow
        if stream.remote_done or self._dead:
            return False
        stream.uncredited += flow
        if stream.uncredited < self._credit_bytes:
            return False
        stream.half.connection.increment_flow_control_window(stream.uncredited, stream.id)
        stream.uncredited = 0
        return True

    def drop(self, key: StreamKey) -> None:
        """Nobody will read what has arrived of a stream; it goes on otherwise."""
        stream = self._table.get(key) or self._unread.late(key)
        if stream is not None:
            self._unread.forget(stream)

    def ping(self, now: float) -> None:
        """Ask the peer for a sign of life; a Ponged says when it came."""
        self._alive()
        self._mine.connection.ping(self._incoming.expect_pong(now))

    @property
    def streams(self) -> int:
        """Streams of either side that are not over, unsent ends included."""
        return len(self._table)

    @property
    def queued(self) -> int:
        """Bytes of bodies that wait to be sent."""
        return self._table.queued

    @property
    def unread(self) -> int:
        """Bytes that have arrived and nobody has taken."""
        return self._unread.total

    @property
    def wants_to_send(self) -> bool:
        """Whether `records_to_send` has something, or would look for it."""
        return bool(self._table.ready) or self._halves[0].connection.has_data or self._halves[1].connection.has_data

    def goaway(self) -> None:
        """Take no new streams from now on, and ask the peer to open none. Those that run go on."""
        self._alive()
        if not self._table.leaving:
            self._table.leaving = True
            for half in self._halves:
                half.connection.go_away()

    # What the pipe brings and takes.

    def receive(self, record: bytes, now: float) -> list[Event]:
        """What one record of the peer tells. Raises ProtocolViolation; the Mux is dead then."""
        self._alive()
        # Dead until the call has ended well: h2 is in no known state after an error nobody foresaw.
        self._dead = True
        events = self._incoming.receive(record, now)
        self._dead = False
        return events

    def records_to_send(self, limit: int = FLUSH_BYTES) -> list[bytes]:
        """Plaintext records for the pipe, in order; empty when there is nothing. At most `limit` bytes of bodies."""
        self._alive()
        room, ready = limit, self._table.ready
        while room > 0 and ready:
            room -= self._send_frame(ready.popleft(), room)
        records: list[bytes] = []
        for half in self._halves:
            data = half.connection.data_to_send()
            for at in range(0, len(data), RECORD_BYTES):
                records.append(half.tag + data[at : at + RECORD_BYTES])
        return records

    # Sending.

    def _send_frame(self, stream: Stream, room: int) -> int:
        """One frame of one stream, then it queues again behind the others. The bytes taken."""
        out = stream.out
        out.waiting = False
        connection = stream.half.connection
        window = connection.local_flow_control_window(stream.id) if out.size else 0
        most = min(MAX_FRAME_BYTES, window)
        # A padded frame may be more than `room`: what is left of that may be too small for any.
        data = out.take(_unpadded(most) if stream.padded else min(room, most))
        if not data and out.size:
            # No credit: a Writable brings it back.
            return 0
        last = out.ending is not None and not out.size
        if last and out.ending:
            if data:
                connection.send_data(stream.id, data, pad_length=_pad(stream, data))
            connection.send_headers(stream.id, out.ending, end_stream=True)
        elif data or last:
            connection.send_data(stream.id, data, end_stream=last, pad_length=_pad(stream, data))
        table = self._table
        table.queued -= len(data)
        table.sent += len(data)
        if last:
            stream.local_done = True
            if stream.then_reset is not None and not stream.remote_done:
                self.reset(stream.key, stream.then_reset)
            self._table.remove_if_done(stream)
        elif out.size:
            self._table.make_ready(stream)
        return len(data)

    def _alive(self) -> None:
        if self._dead:
            raise ProtocolViolation("this link has failed before")

    def _stream(self, key: StreamKey) -> Stream:
        self._alive()
        stream = self._table.get(key)
        if stream is None or stream.out.ending is not None or stream.local_done:
            raise StreamReset("this stream takes nothing more")
        return stream


def _unpadded(room: int) -> int:
    """Bytes that a padded frame of at most `room` bytes carries, 0 where not even the smallest has room."""
    return max(0, room // PAD_BYTES * PAD_BYTES - 1)


def _pad(stream: Stream, data: bytes) -> int | None:
    """Padding that takes `data` to its class; None for none. An end without data has no length to hide, and must not
    wait for credit."""
    return -(len(data) + 1) % PAD_BYTES if stream.padded and data else None
