"""Many streams on one pipe of records, as a machine: what a link's tasks call, and nothing that waits.

A link has two HTTP/2 connections, one for the dialer's requests and one for the listener's, told apart by the first
byte of each record; each is plain RFC 9113. Bytes to send stay here, per stream, until the writer comes for them: so
frames are as large as the pipe is slow, and streams take turns. Not for sealing (noise) nor for tasks (net.link).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from h2 import events as h2_events
from h2.exceptions import H2Error, NoAvailableStreamIDError, TooManyStreamsError
from hpack import HPACKError
from hyperframe.exceptions import HyperframeError

from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkClosed, ProtocolViolation, StreamReset
from meshnode.mux import headers as blocks
from meshnode.mux.events import (
    NO_ERROR,
    REFUSED_STREAM,
    Data,
    Ended,
    Event,
    GoneAway,
    Head,
    Headers,
    Opened,
    Ponged,
    Reset,
    StreamKey,
    Trailers,
    Writable,
)
from meshnode.mux.frames import MAX_FRAME_BYTES, Budget
from meshnode.mux.streams import Half, Stream

RECORD_BYTES = 65_519 - 1
"""What a Noise record holds (noise.transport) beside the byte that names the connection."""

FLUSH_BYTES = 64 * 1024
"""Body bytes taken at once: a message of gossip never stands behind more than this."""

LINK_CREDIT_BYTES = 256 * 1024
"""Credit of the whole connection goes back each so many bytes: rare enough to cost nothing."""

MAX_PINGS = 16
"""Remembered until they come back; a peer that lives but answers none must not fill memory."""

_FOREIGN = (H2Error, HPACKError, HyperframeError, ValueError, LookupError, TypeError, AssertionError)
"""What bytes of a hostile member have made or could make h2, hpack and hyperframe raise."""


class Mux:
    """Both ends' streams on one link.

    Raises ProtocolViolation from `receive` when the peer breaks a rule, and from every call after that.
    """

    def __init__(self, initiator: bool, section: MeshSection) -> None:
        """`initiator`: this end dialled. `section` gives windows, stream limit and budgets."""
        self._halves = tuple(Half(tag, mine=(tag == 0) == initiator, section=section) for tag in (0, 1))
        self._mine = self._halves[0 if initiator else 1]
        self._streams: dict[StreamKey, Stream] = {}
        self._ready: deque[Stream] = deque()
        self._limit = section.streams
        self._credit_bytes = max(1, section.stream_window_bytes // 2)
        self._opened = {True: 0, False: 0}
        self._resets = Budget("resets", section.streams, section.resets_per_min)
        self._control = Budget("control frames", section.control_frames_per_min, section.control_frames_per_min)
        self._pings: dict[bytes, float] = {}
        self._pinged = 0
        self._leaving = self._peer_leaving = self._dead = False
        self.queued = 0
        self._translate: dict[type[Any], Callable[[Half, Any, float], Event | None]] = {
            h2_events.RequestReceived: self._on_request,
            h2_events.ResponseReceived: self._on_response,
            h2_events.TrailersReceived: self._on_trailers,
            h2_events.DataReceived: self._on_data,
            h2_events.StreamEnded: self._on_ended,
            h2_events.StreamReset: self._on_reset,
            h2_events.WindowUpdated: self._on_window,
            h2_events.RemoteSettingsChanged: self._on_settings,
            h2_events.PingAckReceived: self._on_pong,
        }

    # What the shell asks for.

    def open(self, headers: Headers, end: bool) -> StreamKey:
        """Open a stream with a request's head; `end`: no body follows.

        Raises StreamReset (REFUSED_STREAM) when too many are open, LinkClosed when either side is leaving, BadRequest
        for headers that cannot travel.
        """
        self._alive()
        if self._leaving or self._peer_leaving:
            raise LinkClosed("the link takes no new streams")
        block = blocks.outgoing(headers, blocks.REQUEST)
        if self._opened[True] >= self._limit:
            raise StreamReset(f"{self._limit} streams are open on this link", REFUSED_STREAM)
        connection = self._mine.connection
        try:
            number = connection.get_next_available_stream_id()
            connection.send_headers(number, block, end_stream=end)
        except TooManyStreamsError as error:
            raise StreamReset("the peer allows no more streams", REFUSED_STREAM) from error
        except NoAvailableStreamIDError as error:
            self._peer_leaving = True
            raise LinkClosed("the link has used every stream id") from error
        stream = self._add(number, self._mine)
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

    def send(self, key: StreamKey, data: bytes) -> None:
        """Queue bytes of a body, which should not be more than `window(key)`. Raises StreamReset when it is over."""
        stream = self._stream(key)
        if not stream.head_sent:
            raise ValueError("a body before its head")
        stream.out.put(data)
        self.queued += len(data)
        self._make_ready(stream)

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
        self._make_ready(stream)

    def reset(self, key: StreamKey, code: int) -> None:
        """End a stream, both directions; nothing happens to one that is over. What was queued is dropped, but
        NO_ERROR lets a finished answer go out first."""
        stream = self._streams.get(key)
        if stream is None or self._dead:
            return
        if code == NO_ERROR and stream.out.ending is not None and not stream.local_done:
            stream.then_reset = code
            return
        stream.half.connection.reset_stream(stream.id, code)
        self._remove(stream)

    def credit(self, key: StreamKey, flow: int) -> bool:
        """The reader took what cost `flow` bytes of the stream's window (Data.flow, summed). True: there is something
        to send now."""
        stream = self._streams.get(key)
        if stream is None or stream.remote_done or self._dead:
            return False
        stream.uncredited += flow
        if stream.uncredited < self._credit_bytes:
            return False
        stream.half.connection.increment_flow_control_window(stream.uncredited, stream.id)
        stream.uncredited = 0
        return True

    def ping(self, now: float) -> None:
        """Ask the peer for a sign of life; a Ponged says when it came."""
        self._alive()
        self._pinged += 1
        name = struct.pack(">Q", self._pinged)
        if len(self._pings) >= MAX_PINGS:
            self._pings.clear()
        self._pings[name] = now
        self._mine.connection.ping(name)

    @property
    def streams(self) -> int:
        """Streams of either side that are not over, unsent ends included."""
        return len(self._streams)

    @property
    def wants_to_send(self) -> bool:
        """Whether `records_to_send` has something, or would look for it."""
        return bool(self._ready) or self._halves[0].connection.has_data or self._halves[1].connection.has_data

    def goaway(self) -> None:
        """Take no new streams from now on, and ask the peer to open none. Those that run go on."""
        self._alive()
        if not self._leaving:
            self._leaving = True
            for half in self._halves:
                half.connection.go_away()

    # What the pipe brings and takes.

    def receive(self, record: bytes, now: float) -> list[Event]:
        """What one record of the peer tells. Raises ProtocolViolation; the Mux is dead then."""
        self._alive()
        # Dead until the call has ended well: h2 is in no known state after an error nobody foresaw.
        self._dead = True
        if not record or record[0] > 1:
            raise ProtocolViolation("a record for no connection")
        half = self._halves[record[0]]
        events: list[Event] = []
        frames = half.cutter.receive(record[1:])
        resets = half.cutter.resets
        try:
            for found in half.connection.receive_data(frames) if frames else ():
                translate = self._translate.get(found.__class__)
                event = translate(half, found, now) if translate is not None else None
                if event is not None:
                    events.append(event)
                    resets -= event.__class__ is Reset
        except _FOREIGN as error:
            raise ProtocolViolation(f"broken HTTP/2: {type(error).__name__}: {error}"[:200]) from error
        # A reset of a stream that is over costs the peer nothing either.
        control = half.cutter.control + max(0, resets)
        if control:
            self._control.spend(control, now)
        if half.cutter.gone_away and not self._peer_leaving:
            self._peer_leaving = True
            events.append(GoneAway())
        self._dead = False
        return events

    def records_to_send(self, limit: int = FLUSH_BYTES) -> list[bytes]:
        """Plaintext records for the pipe, in order; empty when there is nothing. At most `limit` bytes of bodies."""
        self._alive()
        room = limit
        while room > 0 and self._ready:
            room -= self._send_frame(self._ready.popleft(), room)
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
        data = out.take(min(room, MAX_FRAME_BYTES, window))
        if not data and out.size:
            # No credit: a Writable brings it back.
            return 0
        last = out.ending is not None and not out.size
        if last and out.ending:
            if data:
                connection.send_data(stream.id, data)
            connection.send_headers(stream.id, out.ending, end_stream=True)
        elif data or last:
            connection.send_data(stream.id, data, end_stream=last)
        self.queued -= len(data)
        if last:
            stream.local_done = True
            if stream.then_reset is not None and not stream.remote_done:
                self.reset(stream.key, stream.then_reset)
            self._remove_if_done(stream)
        elif out.size:
            self._make_ready(stream)
        return len(data)

    def _make_ready(self, stream: Stream) -> None:
        if not stream.out.waiting:
            stream.out.waiting = True
            self._ready.append(stream)

    # Receiving: each translates one of h2's events.

    def _on_request(self, half: Half, event: h2_events.RequestReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.REQUEST)
        if self._leaving or self._opened[False] >= self._limit:
            half.connection.reset_stream(event.stream_id, REFUSED_STREAM)
            self._control.spend(1, now)
            return None
        stream = self._add(event.stream_id, half)
        return Opened(stream.key, headers, event.stream_ended is not None)

    def _on_response(self, half: Half, event: h2_events.ResponseReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.RESPONSE)
        stream = self._find(half, event.stream_id)
        return Head(stream.key, headers, event.stream_ended is not None) if stream is not None else None

    def _on_trailers(self, half: Half, event: h2_events.TrailersReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.TRAILERS)
        stream = self._find(half, event.stream_id)
        return Trailers(stream.key, headers) if stream is not None else None

    def _on_data(self, half: Half, event: h2_events.DataReceived, now: float) -> Event | None:
        flow = event.flow_controlled_length
        half.arrived += flow
        if half.arrived >= LINK_CREDIT_BYTES:
            half.connection.increment_flow_control_window(half.arrived)
            half.arrived = 0
        stream = self._find(half, event.stream_id)
        return Data(stream.key, event.data, flow) if stream is not None and flow else None

    def _on_ended(self, half: Half, event: h2_events.StreamEnded, now: float) -> Event | None:
        stream = self._find(half, event.stream_id)
        if stream is None:
            return None
        stream.remote_done = True
        if not half.mine:
            # Who lets answers end may cancel others.
            self._resets.earn(0.5)
        self._remove_if_done(stream)
        return Ended(stream.key)

    def _on_reset(self, half: Half, event: h2_events.StreamReset, now: float) -> Event | None:
        stream = self._find(half, event.stream_id)
        if stream is None:
            return None
        if not half.mine:
            self._resets.spend(1, now)
        self._remove(stream)
        return Reset(stream.key, int(event.error_code))

    def _on_window(self, half: Half, event: h2_events.WindowUpdated, now: float) -> Event | None:
        if not event.stream_id:
            return self._on_settings(half, event, now)
        stream = self._find(half, event.stream_id)
        if stream is None:
            return None
        if stream.out.size:
            self._make_ready(stream)
        return Writable(stream.key)

    def _on_settings(self, half: Half, event: object, now: float) -> Event | None:
        """Every window of this connection may have grown."""
        for stream in self._streams.values():
            if stream.half is half and stream.out.size:
                self._make_ready(stream)
        return Writable(None)

    def _on_pong(self, half: Half, event: h2_events.PingAckReceived, now: float) -> Event | None:
        sent = self._pings.pop(event.ping_data, None)
        if sent is None:
            return None
        # An answer to a later ping answers those before it.
        self._pings.clear()
        return Ponged(now - sent)

    # The table of streams.

    def _alive(self) -> None:
        if self._dead:
            raise ProtocolViolation("this link has failed before")

    def _stream(self, key: StreamKey) -> Stream:
        self._alive()
        stream = self._streams.get(key)
        if stream is None or stream.out.ending is not None or stream.local_done:
            raise StreamReset("this stream takes nothing more")
        return stream

    def _find(self, half: Half, number: int) -> Stream | None:
        return self._streams.get(StreamKey(number << 1 | half.tag[0]))

    def _add(self, number: int, half: Half) -> Stream:
        stream = Stream(StreamKey(number << 1 | half.tag[0]), half)
        self._streams[stream.key] = stream
        self._opened[half.mine] += 1
        return stream

    def _remove_if_done(self, stream: Stream) -> None:
        if stream.local_done and stream.remote_done:
            self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        if self._streams.pop(stream.key, None) is not None:
            self._opened[stream.half.mine] -= 1
            self.queued -= stream.out.drop()
            if stream.out.waiting:
                self._ready.remove(stream)
