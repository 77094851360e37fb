"""What a peer's records tell: h2's events in our words, and a budget for everything that is cheap to send.

A member may be hostile (reliability.md T15): each flood of HTTP/2's history costs it the link, and none costs this
node memory. Not for what this side asks and sends (mux.py). Counterpart: the Mux at the other end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from h2 import events as h2_events
from h2.exceptions import H2Error
from hpack import HPACKError
from hyperframe.exceptions import HyperframeError

from meshnode.config.mesh import MeshSection
from meshnode.errors import ProtocolViolation
from meshnode.mux import headers as blocks
from meshnode.mux.events import (
    CANCEL,
    REFUSED_STREAM,
    Beat,
    Data,
    Ended,
    Event,
    GoneAway,
    Head,
    Opened,
    Overflowed,
    Ponged,
    Reset,
    Trailers,
    Writable,
)
from meshnode.mux.frames import Budget, FrameCutter
from meshnode.mux.streams import Half
from meshnode.mux.table import Table

LINK_CREDIT_BYTES = 256 * 1024
"""Credit of the whole connection goes back each so many bytes: rare enough to cost nothing."""

MAX_PINGS = 16
"""Remembered until they come back; a peer that lives but answers none must not fill memory."""

WINDOW_UPDATE_BYTES = 512
"""A peer may give credit once for so many bytes sent to it. It gives some for half a window, at least 1 KiB."""

STRAY_FRAMES = 3
"""Of a stream that this side has reset, a head, trailers and a reset may be on their way."""

MAX_UNSENT_BYTES = 4 << 20
"""Frames that wait to be sent beside bodies. A peer that makes this end talk and does not listen reaches it."""

RAPID_S = 1.0
"""A stream that lived so long may be cancelled at no cost. What makes cancelling an attack is that it frees a
place at once; of streams that are held so long there are no more than `streams` each second. A relay passes on what
many origins cancel, each of whom it judges by the same rule."""

BEATS = 16
BEATS_S = 0.5
"""Signs of life of one stream: so many at once, then one each so often. An honest peer sends one each second until its
answer begins, and a pipe that stood still brings together what a lease outlives."""

_TOLD = (Opened, Head, Beat, Trailers)
"""What HEADERS and DATA of no bytes may have told."""

_FOREIGN = (H2Error, HPACKError, HyperframeError, ValueError, LookupError, TypeError, AssertionError)
"""What bytes of a hostile member have made or could make h2, hpack and hyperframe raise."""


class Incoming:
    """Takes the peer's records, and keeps `table` as they tell."""

    def __init__(self, halves: tuple[Half, ...], table: Table, section: MeshSection) -> None:
        self._halves = halves
        self._table = table
        self._limit = section.streams
        self._window_bytes = section.stream_window_bytes
        self._unread = table.unread
        self._resets = Budget("resets", section.streams, section.resets_per_min)
        self._control = Budget("control frames", section.control_frames_per_min, section.control_frames_per_min)
        # What may still come of streams that this side has reset, and of credit for what it has sent.
        self._stray_frames = self._stray_bytes = 0
        self._windows = 4.0 * section.streams
        self._windows_at = 0
        self._pings: dict[bytes, float] = {}
        self._pinged = 0
        self._translate: dict[type[Any], Callable[[Half, Any, float], Event | None]] = {
            h2_events.RequestReceived: self._on_request,
            h2_events.ResponseReceived: self._on_response,
            h2_events.InformationalResponseReceived: self._on_informational,
            h2_events.TrailersReceived: self._on_trailers,
            h2_events.DataReceived: self._on_data,
            h2_events.StreamEnded: self._on_ended,
            h2_events.StreamReset: self._on_reset,
            h2_events.WindowUpdated: self._on_window,
            h2_events.RemoteSettingsChanged: self._on_settings,
            h2_events.PingAckReceived: self._on_pong,
        }

    def receive(self, record: bytes, now: float) -> list[Event]:
        """What one record tells. Raises ProtocolViolation; the connections are in no known state after it."""
        if not record or record[0] > 1:
            raise ProtocolViolation("a record for no connection")
        half = self._halves[record[0]]
        cutter, connection = half.cutter, half.connection
        frames = cutter.receive(record[1:])
        if cutter.control:
            self._control.spend(cutter.control, now)
        events: list[Event] = []
        try:
            for found in connection.receive_data(frames) if frames else ():
                translate = self._translate.get(found.__class__)
                event = translate(half, found, now) if translate is not None else None
                if event is not None:
                    events.append(event)
        except _FOREIGN as error:
            raise ProtocolViolation(f"broken HTTP/2: {type(error).__name__}: {error}"[:200]) from error
        if cutter.others:
            self._pay(cutter, events, now)
            if cutter.gone_away and not self._table.peer_leaving:
                self._table.peer_leaving = True
                events.append(GoneAway())
        if connection.stray_bytes:
            self._take_strays(half)
        if connection.unsent_bytes > MAX_UNSENT_BYTES:
            raise ProtocolViolation("the peer makes this end talk and does not listen")
        if self._unread.total > self._unread.limit_bytes:
            events += self._overflow(now)
        return events

    def expect_pong(self, now: float) -> bytes:
        """A name for a ping that is sent now."""
        self._pinged += 1
        name = struct.pack(">Q", self._pinged)
        if len(self._pings) >= MAX_PINGS:
            self._pings.clear()
        self._pings[name] = now
        return name

    def expect_strays(self) -> None:
        """This side has reset a stream of which more may be on its way: so much is forgiven."""
        self._stray_frames = min(self._stray_frames + STRAY_FRAMES, STRAY_FRAMES * self._limit)
        self._stray_bytes = min(self._stray_bytes + self._window_bytes, self._window_bytes * self._limit)

    # Budgets.

    def _pay(self, cutter: FrameCutter, events: list[Event], now: float) -> None:
        """Frames that told nothing: of streams that are over, in between, or credit for nothing."""
        strays = 0
        said = cutter.heads + cutter.empties
        if said or cutter.resets:
            told = sum([isinstance(event, _TOLD) for event in events])
            strays = max(0, said - told) + max(0, cutter.resets - sum([type(e) is Reset for e in events]))
        forgiven = min(strays, self._stray_frames)
        self._stray_frames -= forgiven
        cost = strays - forgiven
        if cutter.windows:
            sent = self._table.sent
            earned = (sent - self._windows_at) / WINDOW_UPDATE_BYTES
            self._windows = min(self._windows + earned, 4.0 * self._limit) - cutter.windows
            self._windows_at = sent
            cost += max(0, int(-self._windows))
            self._windows = max(0.0, self._windows)
        if cost:
            self._control.spend(cost, now)

    def _take_strays(self, half: Half) -> None:
        self._stray_bytes -= half.connection.stray_bytes
        half.connection.stray_bytes = 0
        if self._stray_bytes < 0:
            raise ProtocolViolation("data for streams that are over, beyond every window")

    def _overflow(self, now: float) -> Iterator[Event]:
        """Give up what has been unread longest until the rest fits."""
        unread = self._unread
        while unread.total > unread.limit_bytes and (stream := unread.longest(self._table)) is not None:
            unread.forget(stream)
            if self._table.get(stream.key) is not None:
                if not stream.half.mine:
                    # A peer that fills streams of its own is provoking resets.
                    self._resets.spend(1, now)
                stream.half.connection.reset_stream(stream.id, CANCEL)
                self._table.remove(stream)
                self.expect_strays()
            yield Overflowed(stream.key)

    # Each translates one of h2's events.

    def _on_request(self, half: Half, event: h2_events.RequestReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.REQUEST)
        if self._table.leaving or self._table.opened[False] >= self._limit:
            half.connection.reset_stream(event.stream_id, REFUSED_STREAM)
            self._control.spend(1, now)
            self.expect_strays()
            return None
        stream = self._table.add(event.stream_id, half)
        stream.opened_at = now
        return Opened(stream.key, headers, event.stream_ended is not None)

    def _on_response(self, half: Half, event: h2_events.ResponseReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.RESPONSE)
        stream = self._table.find(half, event.stream_id)
        return Head(stream.key, headers, event.stream_ended is not None) if stream is not None else None

    def _on_informational(self, half: Half, event: h2_events.InformationalResponseReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.RESPONSE)
        beat = self._beat(half, event.stream_id, now)
        return Beat(beat.key, blocks.read_place(headers), blocks.read_mute(headers)) if beat is not None else None

    def _beat(self, half: Half, number: int, now: float) -> Beat | None:
        """A sign of life of the peer's answer; None where it comes too often, or is none. That costs a control frame:
        see `_pay`."""
        stream = self._table.find(half, number)
        if stream is None or not half.mine:
            return None
        if not stream.beats:
            stream.beats_since = now
        stream.beats += 1
        if stream.beats > BEATS + (now - stream.beats_since) / BEATS_S:
            stream.beats -= 1
            return None
        return Beat(stream.key)

    def _on_trailers(self, half: Half, event: h2_events.TrailersReceived, now: float) -> Event | None:
        headers = blocks.incoming(event.headers, blocks.TRAILERS)
        stream = self._table.find(half, event.stream_id)
        return Trailers(stream.key, headers) if stream is not None else None

    def _on_data(self, half: Half, event: h2_events.DataReceived, now: float) -> Event | None:
        flow = event.flow_controlled_length
        half.arrived += flow
        if half.arrived >= LINK_CREDIT_BYTES:
            half.connection.increment_flow_control_window(half.arrived)
            half.arrived = 0
        if not flow:
            return self._beat(half, event.stream_id, now) if event.stream_ended is None else None
        stream = self._table.find(half, event.stream_id)
        if stream is None:
            return None
        # Counted here and in `Mux.credit`, not by methods: each chunk passes.
        if not stream.unread:
            stream.unread_since = now
        stream.unread += flow
        self._unread.total += flow
        return Data(stream.key, event.data, flow)

    def _on_ended(self, half: Half, event: h2_events.StreamEnded, now: float) -> Event | None:
        stream = self._table.find(half, event.stream_id)
        if stream is None:
            return None
        stream.remote_done = True
        if not half.mine:
            # Who lets answers end may cancel others.
            self._resets.earn(0.5)
        self._table.remove_if_done(stream)
        return Ended(stream.key)

    def _on_reset(self, half: Half, event: h2_events.StreamReset, now: float) -> Event | None:
        if not event.remote_reset:
            # h2 resets what breaks a rule of one stream, so a peer could have streams reset without end
            # (CVE-2025-8671, "made you reset"). No Mux breaks those rules.
            raise ProtocolViolation(f"a stream's rules are broken: HTTP/2 error {int(event.error_code)}")
        stream = self._table.find(half, event.stream_id)
        if stream is None:
            return None
        if not half.mine and now - stream.opened_at < RAPID_S:
            self._resets.spend(1, now)
        self._table.remove(stream)
        return Reset(stream.key, int(event.error_code))

    def _on_window(self, half: Half, event: h2_events.WindowUpdated, now: float) -> Event | None:
        if not event.stream_id:
            return self._on_settings(half, event, now)
        stream = self._table.find(half, event.stream_id)
        if stream is None:
            return None
        if stream.out.size:
            self._table.make_ready(stream)
        return Writable(stream.key)

    def _on_settings(self, half: Half, event: object, now: float) -> Event | None:
        """Every window of this connection may have grown."""
        for stream in self._table.of(half):
            if stream.out.size:
                self._table.make_ready(stream)
        return Writable(None)

    def _on_pong(self, half: Half, event: h2_events.PingAckReceived, now: float) -> Event | None:
        sent = self._pings.pop(event.ping_data, None)
        if sent is None:
            return None
        # An answer to a later ping answers those before it.
        self._pings.clear()
        return Ponged(now - sent)
