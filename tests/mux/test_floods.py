"""A hostile member's floods (reliability.md T15): each costs it the link, and none costs this node memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from meshnode.config.mesh import MeshSection
from meshnode.errors import ProtocolViolation, StreamReset
from meshnode.mux import CANCEL, Data, Ended, Event, Mux, Opened, Overflowed, Reset, StreamKey, incoming
from meshnode.mux.headers import MAX_HEADERS
from tests.mux.pair import OK, REQUEST, Pair

SECTION = MeshSection()
MAX_GROWTH_BYTES = 24 << 20
"""Of one link under any of these; T15 allows a node 64 MiB."""

BLOCK = [(name.encode(), value.encode()) for name, value in REQUEST]


class Hostile:
    """A member that speaks HTTP/2 frame by frame to a listener, and reads nothing."""

    def __init__(self, section: MeshSection = SECTION) -> None:
        self.mux = Mux(False, section)
        self.encoder = Encoder()
        self.events: list[Event] = []
        self.next_id = -1
        self.now = 0.0
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        self.say(client.data_to_send())

    def say(self, data: bytes) -> None:
        for at in range(0, len(data), 60_000):
            self.events = self.mux.receive(b"\x00" + data[at : at + 60_000], self.now)

    def frame(self, frame: Frame, count: int = 1) -> None:
        self.say(frame.serialize() * count)

    def open(self, headers: list[tuple[bytes, bytes]] | None = None, *, end: bool = False) -> int:
        self.next_id += 2
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        self.frame(HeadersFrame(self.next_id, self.encoder.encode(headers or BLOCK, huffman=False), flags=flags))
        return self.next_id


def key_of(number: int) -> StreamKey:
    return StreamKey(number << 1)


@contextmanager
def bounded(limit_bytes: int = MAX_GROWTH_BYTES) -> Iterator[None]:
    """What is allocated meanwhile stays below the bound, at its highest."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        assert tracemalloc.get_traced_memory()[1] - before < limit_bytes
    finally:
        tracemalloc.stop()


def ping(hostile: Hostile, step: int) -> None:
    hostile.frame(PingFrame(0, b"12345678"))


def settings(hostile: Hostile, step: int) -> None:
    hostile.frame(SettingsFrame(0, settings={0x4: 65_535 + step % 2}))


def settings_ack(hostile: Hostile, step: int) -> None:
    hostile.frame(SettingsFrame(0, flags=["ACK"]))


def unknown(hostile: Hostile, step: int) -> None:
    hostile.say(b"\x00\x00\x04\x99\x00\x00\x00\x00\x00abcd")


def goaway(hostile: Hostile, step: int) -> None:
    hostile.frame(GoAwayFrame(0, last_stream_id=0))


def empty_data(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.open()
    hostile.frame(DataFrame(1, b""))


def window_updates(hostile: Hostile, step: int) -> None:
    hostile.frame(WindowUpdateFrame(0, window_increment=1))


def window_updates_of_a_stream(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.open()
    hostile.frame(WindowUpdateFrame(1, window_increment=1))


def window_updates_of_a_stream_that_is_over(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.mux.reset(key_of(hostile.open()), CANCEL)
    hostile.frame(WindowUpdateFrame(1, window_increment=1))


def rapid_reset(hostile: Hostile, step: int) -> None:
    hostile.frame(RstStreamFrame(hostile.open()))


def reset_of_a_stream_that_is_over(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.open()
    hostile.frame(RstStreamFrame(1))


def headers_of_a_stream_that_is_over(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.mux.reset(key_of(hostile.open()), CANCEL)
    block = hostile.encoder.encode([(b"a", b"b")])
    hostile.frame(HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))


def data_of_a_stream_that_is_over(hostile: Hostile, step: int) -> None:
    if not step:
        hostile.mux.reset(key_of(hostile.open()), CANCEL)
    hostile.frame(DataFrame(1, b"x" * 1000))


def streams_beyond_the_limit(hostile: Hostile, step: int) -> None:
    hostile.open()


def one_byte_records_that_are_no_frame(hostile: Hostile, step: int) -> None:
    # A CONTINUATION without HEADERS, byte by byte.
    hostile.say(b"\x00\x00\x01\x09\x04\x00\x00\x00\x01x"[step % 10 : step % 10 + 1])


FLOODS = [
    ping,
    settings,
    settings_ack,
    unknown,
    goaway,
    empty_data,
    window_updates,
    window_updates_of_a_stream,
    window_updates_of_a_stream_that_is_over,
    rapid_reset,
    reset_of_a_stream_that_is_over,
    headers_of_a_stream_that_is_over,
    data_of_a_stream_that_is_over,
    streams_beyond_the_limit,
    one_byte_records_that_are_no_frame,
]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_ends_the_link_and_costs_no_memory(flood: Callable[[Hostile, int], None]) -> None:
    hostile = Hostile()
    with bounded(), pytest.raises(ProtocolViolation):
        for step in range(10_000):
            flood(hostile, step)


@pytest.mark.parametrize("flood", [ping, settings, unknown, rapid_reset], ids=lambda flood: flood.__name__)
def test_the_same_at_the_pace_of_a_link_in_order_is_fine(flood: Callable[[Hostile, int], None]) -> None:
    hostile = Hostile()
    for step in range(3000):
        hostile.now = step * 1.0
        flood(hostile, step)
        hostile.mux.records_to_send()


class TestBlocks:
    """Header blocks: in pieces without end, and small ones that grow."""

    def test_a_block_in_many_continuations_is_ended_at_64_kib(self) -> None:
        hostile = Hostile()
        hostile.frame(HeadersFrame(1, b"\x00" * 16_000))
        with bounded(), pytest.raises(ProtocolViolation, match="header block"):
            for _ in range(10):
                hostile.frame(ContinuationFrame(1, b"\x00" * 16_000))

    def test_small_continuations_are_ended_by_their_number(self) -> None:
        hostile = Hostile()
        hostile.frame(HeadersFrame(1, b"\x00"))
        with bounded(), pytest.raises(ProtocolViolation):
            for _ in range(2000):
                hostile.frame(ContinuationFrame(1, b"\x00"))

    def test_a_long_block_of_our_own_passes(self) -> None:
        pair = Pair()
        headers = [*REQUEST, *((f"x-{n}", "v" * 150) for n in range(MAX_HEADERS - len(REQUEST)))]
        key = pair.dialer.open(headers, end=True)
        pair.settle()
        assert Opened(key, tuple(headers), True) in pair.take(pair.listener)

    def test_a_table_entry_told_a_thousand_times_is_a_bomb(self) -> None:
        """A block of 1 KiB that would decode to 4 MiB (CVE-2016-6581)."""
        hostile = Hostile()
        hostile.open([*BLOCK, (b"a", b"v" * 4000)], end=True)
        with bounded(), pytest.raises(ProtocolViolation):
            hostile.open([*BLOCK, *[(b"a", b"v" * 4000)] * 1000])

    @pytest.mark.parametrize("count", [MAX_HEADERS - len(BLOCK) + 1, 400])
    def test_many_small_headers_are_a_bomb_too(self, count: int) -> None:
        hostile = Hostile()
        with bounded(), pytest.raises(ProtocolViolation):
            hostile.open([*BLOCK, *((b"a%d" % n, b"") for n in range(count))])

    def test_the_largest_headers_on_every_stream_are_bounded(self) -> None:
        """On an eighth of them, for speed."""
        hostile = Hostile()
        extra = [(b"a%d" % n, b"v" * 165) for n in range(MAX_HEADERS - len(BLOCK))]
        kept: list[Event] = []
        with bounded(MAX_GROWTH_BYTES // 8):
            for _ in range(SECTION.streams // 8):
                hostile.open([*BLOCK, *extra])
                kept += hostile.events
        assert sum(isinstance(event, Opened) for event in kept) == SECTION.streams // 8

    def test_a_table_larger_than_agreed_is_refused(self) -> None:
        hostile = Hostile()
        hostile.encoder.header_table_size = 1 << 20
        with pytest.raises(ProtocolViolation):
            hostile.open()


class TestSettings:
    def test_settings_nobody_knows_are_not_kept(self) -> None:
        """65,536 ids of half a kilobyte each, in 25 frames."""
        hostile = Hostile()
        with bounded():
            for first in range(0x100, 0x10000, 2700):
                body = b"".join(struct.pack(">HL", n, 1) for n in range(first, min(first + 2700, 0x10000)))
                hostile.say(len(body).to_bytes(3, "big") + b"\x04" + bytes(5) + body)
        kept = [half.connection.remote_settings for half in hostile.mux._halves]
        assert max(len(settings) for settings in kept) < 10

    def test_shrinking_windows_stop_bodies_and_no_memory_grows(self) -> None:
        hostile = Hostile()
        hostile.frame(SettingsFrame(0, settings={0x4: 0}))
        key = key_of(hostile.open(end=True))
        hostile.mux.send_head(key, OK)
        assert hostile.mux.window(key) == 0


class TestMadeYouReset:
    """CVE-2025-8671: frames that make this side reset a stream, which then counts for nobody while work goes on."""

    @pytest.mark.parametrize(
        "provoke",
        [
            lambda hostile, number: WindowUpdateFrame(number, window_increment=2**31 - 1),
            lambda hostile, number: DataFrame(number, b"after the end"),
            lambda hostile, number: HeadersFrame(
                number, hostile.encoder.encode([(b"a", b"b")]), flags=["END_HEADERS", "END_STREAM"]
            ),
        ],
        ids=["window", "data", "headers"],
    )
    def test_the_first_such_frame_ends_the_link(self, provoke: Callable[[Hostile, int], Frame]) -> None:
        hostile = Hostile()
        number = hostile.open(end=True)
        with pytest.raises(ProtocolViolation):
            hostile.frame(provoke(hostile, number))

    def test_a_window_update_of_nothing_ends_the_link(self) -> None:
        hostile = Hostile()
        hostile.open()
        with pytest.raises(ProtocolViolation):
            hostile.say(b"\x00\x00\x04\x08\x00\x00\x00\x00\x01" + bytes(4))

    def test_filling_streams_until_they_are_given_up_costs_the_resets(self) -> None:
        hostile = Hostile(replace(SECTION, link_buffer_bytes=1 << 20, streams=64))
        with bounded(), pytest.raises(ProtocolViolation, match="too many resets"):
            for _ in range(1000):
                number = hostile.open()
                hostile.frame(DataFrame(number, b"x" * 16_000), 10)
        assert hostile.mux.unread < 2 << 20


class TestHonest:
    """What the budgets must leave alone: the same frames where they are an honest peer's."""

    def test_a_peer_whose_streams_are_all_cancelled_at_once_is_forgiven_what_is_in_flight(self) -> None:
        pair = Pair(replace(SECTION, control_frames_per_min=10))
        for _ in range(5):
            keys = [pair.dialer.open(REQUEST, end=True) for _ in range(200)]
            pair.carry(pair.dialer)
            for key in keys:
                pair.listener.send_head(key, OK)
                pair.listener.send(key, b"token")
                pair.listener.finish(key, [("meshnode-done", "1")])
                # Cancelled while all of it is on its way.
                pair.dialer.reset(key, CANCEL)
            pair.settle()
            assert pair.dialer.streams == pair.listener.streams == 0

    def test_a_relay_may_pass_on_what_many_origins_cancel_after_a_while(self) -> None:
        pair = Pair(replace(SECTION, resets_per_min=1, streams=64))
        for _ in range(100):
            keys = [pair.ask() for _ in range(60)]
            pair.now += incoming.RAPID_S
            for key in keys:
                pair.dialer.reset(key, CANCEL)
            pair.settle()
        assert pair.listener.streams == 0

    def test_credit_for_what_was_sent_is_not_counted(self) -> None:
        section = replace(SECTION, stream_window_bytes=2048, control_frames_per_min=30, streams=4)
        pair = Pair(section)
        key = pair.ask()
        pair.listener.send_head(key, OK)
        total = 0
        while total < 1 << 20:
            size = pair.listener.window(key)
            assert size > 0
            pair.listener.send(key, b"x" * size)
            pair.settle()
            for event in pair.take(pair.dialer):
                if isinstance(event, Data):
                    pair.dialer.credit(key, event.flow)
            pair.settle()
            total += size

    def test_late_frames_of_a_stream_long_over_are_understood(self) -> None:
        pair = Pair()
        late = pair.ask()
        pair.listener.send_head(late, OK)
        in_flight = pair.listener.records_to_send()
        pair.dialer.reset(late, CANCEL)
        for _ in range(1000):
            key = pair.dialer.open(REQUEST, end=True)
            pair.dialer.reset(key, CANCEL)
        for record in in_flight:
            assert pair.dialer.receive(record, 0.0) == []


class TestBuffer:
    """`link_buffer_bytes`: unread bytes of all streams together."""

    SECTION = replace(SECTION, link_buffer_bytes=500_000)

    def fill(self, pair: Pair, size: int = 200_000) -> StreamKey:
        pair.now += 1.0
        key = pair.ask()
        pair.listener.send_head(key, OK)
        pair.listener.send(key, b"x" * size)
        pair.settle()
        return key

    def test_the_stream_unread_longest_is_given_up_and_the_others_go_on(self) -> None:
        pair = Pair(self.SECTION)
        first, second = self.fill(pair), self.fill(pair)
        assert pair.dialer.unread == 400_000
        third = self.fill(pair)
        events = pair.take(pair.dialer)
        assert [event for event in events if isinstance(event, Overflowed)] == [Overflowed(first)]
        assert Reset(first, CANCEL) in pair.take(pair.listener)
        assert pair.dialer.unread == 400_000
        with pytest.raises(StreamReset):
            pair.listener.send(first, b"more")
        for key in (second, third):
            pair.dialer.credit(key, 200_000)
            pair.listener.send(key, b"y" * 1000)
            pair.listener.finish(key)
        pair.settle()
        assert {event.key for event in pair.take(pair.dialer) if isinstance(event, Ended)} == {second, third}
        assert pair.dialer.unread == 2000

    def test_a_stream_that_is_read_is_never_the_one(self) -> None:
        pair = Pair(self.SECTION)
        read = self.fill(pair)
        for _ in range(10):
            pair.dialer.credit(read, 200_000)
            pair.listener.send(read, b"x" * 200_000)
            pair.settle()
            self.fill(pair, 50_000)
        given_up = [event.key for event in pair.take(pair.dialer) if isinstance(event, Overflowed)]
        assert given_up
        assert read not in given_up

    def test_bytes_of_streams_that_have_ended_count_until_they_are_read(self) -> None:
        pair = Pair(self.SECTION)
        keys = []
        for _ in range(4):
            keys.append(self.fill(pair, 150_000))
            pair.listener.finish(keys[-1])
            pair.settle()
        assert [event for event in pair.take(pair.dialer) if isinstance(event, Overflowed)] == [Overflowed(keys[0])]
        assert pair.dialer.unread == 450_000
        pair.dialer.drop(keys[1])
        pair.dialer.credit(keys[2], 150_000)
        assert pair.dialer.unread == 150_000

    def test_what_is_reset_counts_no_more(self) -> None:
        pair = Pair(self.SECTION)
        for _ in range(10):
            pair.dialer.reset(self.fill(pair), CANCEL)
        assert pair.dialer.unread == 0
        assert not [event for event in pair.take(pair.dialer) if isinstance(event, Overflowed)]


class TestSlowReaders:
    def test_who_makes_this_end_talk_and_does_not_listen_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pings at just the allowed pace, for hours: their answers may not pile up."""
        monkeypatch.setattr(incoming, "MAX_UNSENT_BYTES", 100_000)
        hostile = Hostile()
        with pytest.raises(ProtocolViolation, match="does not listen"):
            while hostile.now < 600:
                hostile.now += 1.0
                hostile.frame(PingFrame(0, b"12345678"), 16)
        assert 300 < hostile.now < 400

    def test_streams_opened_and_left_without_a_body_are_bounded_by_their_number(self) -> None:
        hostile = Hostile()
        with bounded():
            for _ in range(SECTION.streams + 500):
                hostile.open()
        assert hostile.mux.streams == SECTION.streams

    def test_no_window_means_no_bytes_kept(self) -> None:
        """A thousand answers to a peer that gives no credit: nothing of their bodies is taken."""
        hostile = Hostile()
        hostile.frame(SettingsFrame(0, settings={0x4: 0}))
        for _ in range(SECTION.streams):
            key = key_of(hostile.open(end=True))
            hostile.mux.send_head(key, OK)
            assert hostile.mux.window(key) == 0
        assert hostile.mux.queued == 0
