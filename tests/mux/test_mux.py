"""A Mux against a Mux: requests both ways, credit, endings, limits; a Mux against a hostile member."""

from __future__ import annotations

from dataclasses import replace

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import DataFrame, Frame, PingFrame, PriorityFrame, RstStreamFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.errors import BadRequest, LinkClosed, ProtocolViolation, StreamReset
from meshnode.mux import (
    CANCEL,
    NO_ERROR,
    REFUSED_STREAM,
    Data,
    Ended,
    GoneAway,
    Head,
    Mux,
    Opened,
    Ponged,
    Reset,
    StreamKey,
    Writable,
)
from tests.mux.pair import OK, REQUEST, Pair, body_of, trailers_of

SECTION = MeshSection()


def test_both_ends_ask_and_answer_at_once() -> None:
    pair = Pair()
    asked = pair.dialer.open(REQUEST, end=True)
    asked_back = pair.listener.open([*REQUEST, ("meshnode-job", "7")], end=True)
    pair.settle()
    assert Opened(asked, tuple(REQUEST), True) in pair.take(pair.listener)
    assert Opened(asked_back, (*REQUEST, ("meshnode-job", "7")), True) in pair.take(pair.dialer)
    assert asked != asked_back
    for mux, key, text in ((pair.listener, asked, b"one"), (pair.dialer, asked_back, b"two")):
        mux.send_head(key, OK)
        mux.send(key, text)
        mux.finish(key)
    pair.settle()
    for mux, key, text in ((pair.dialer, asked, b"one"), (pair.listener, asked_back, b"two")):
        events = [event for event in pair.take(mux) if not isinstance(event, Writable)]
        assert events == [Head(key, tuple(OK), False), Data(key, text, len(text)), Ended(key)]
        assert mux.streams == 0


def test_trailers_follow_the_last_byte() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"x" * 100_000)
    pair.listener.finish(key, [("meshnode-done", "1")])
    pair.settle()
    events = pair.take(pair.dialer)
    assert body_of(events, key) == b"x" * 100_000
    assert trailers_of(events, key) == [("meshnode-done", "1")]
    assert [type(event).__name__ for event in events[-2:]] == ["Trailers", "Ended"]


def test_trailers_alone_end_an_empty_answer() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.finish(key, [("meshnode-done", "1")])
    pair.settle()
    assert trailers_of(pair.take(pair.dialer), key) == [("meshnode-done", "1")]
    assert pair.dialer.streams == pair.listener.streams == 0


@given(cut=st.integers(1, 40), body=st.binary(max_size=300), answer=st.binary(max_size=300))
@settings(deadline=None, max_examples=40)
def test_any_cut_of_the_records_gives_the_same(cut: int, body: bytes, answer: bytes) -> None:
    pair = Pair()
    key = pair.dialer.open(REQUEST, end=False)
    pair.dialer.send(key, body)
    pair.dialer.finish(key)
    pair.settle(cut=cut)
    pair.listener.send_head(key, OK)
    pair.listener.send(key, answer)
    pair.listener.finish(key, [("a", "b")])
    pair.settle(cut=cut)
    assert body_of(pair.take(pair.listener), key) == body
    events = pair.take(pair.dialer)
    assert body_of(events, key) == answer
    assert trailers_of(events, key) == [("a", "b")]


def test_chunks_that_wait_together_leave_in_one_frame_and_one_record() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    for _ in range(50):
        pair.listener.send(key, b"0123456789")
    assert len(pair.listener.records_to_send()) == 1
    assert pair.listener.records_to_send() == []


def test_records_are_few_and_not_too_large() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"x" * 200_000)
    records = pair.listener.records_to_send(limit=200_000)
    assert len(records) == 4
    assert max(len(record) for record in records) == 65_519


def test_a_late_message_stands_behind_one_flush_of_a_long_body() -> None:
    pair = Pair()
    bulk, gossip = pair.ask(), pair.ask()
    for key in (bulk, gossip):
        pair.listener.send_head(key, OK)
    pair.listener.send(bulk, b"x" * 250_000)
    first = sum(map(len, pair.listener.records_to_send()))
    assert first < 66_000
    pair.listener.send(gossip, b"hello")
    second = b"".join(pair.listener.records_to_send())
    assert b"hello" in second
    assert len(second) < 66_000


def test_an_unread_stream_stops_no_other() -> None:
    pair = Pair()
    unread, read = pair.ask(), pair.ask()
    for key in (unread, read):
        pair.listener.send_head(key, OK)
    pair.listener.send(unread, b"x" * pair.listener.window(unread))
    pair.settle()
    assert pair.listener.window(unread) == 0
    total = 0
    while total < 20 << 20:
        size = pair.listener.window(read)
        assert size > 0
        pair.listener.send(read, b"y" * size)
        pair.settle()
        got = body_of(pair.take(pair.dialer), read)
        assert len(got) == size
        pair.dialer.credit(read, size)
        pair.settle()
        total += size
    assert pair.listener.window(unread) == 0


def test_many_unread_streams_stop_no_other() -> None:
    """More than the connection's whole window lies unread, and credit of the connection still flows."""
    pair = Pair(replace(SECTION, link_window_bytes=1 << 20))
    for _ in range(8):
        key = pair.ask()
        pair.listener.send_head(key, OK)
        pair.listener.send(key, b"x" * pair.listener.window(key))
        pair.settle()
    last = pair.ask()
    pair.listener.send_head(last, OK)
    pair.listener.send(last, b"y" * 1000)
    pair.settle()
    assert body_of(pair.take(pair.dialer), last) == b"y" * 1000


def test_credit_comes_back_when_the_reader_took_half_a_window() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    window = pair.listener.window(key)
    assert window == SECTION.stream_window_bytes
    pair.listener.send(key, b"x" * window)
    pair.settle()
    pair.take(pair.listener)
    assert not pair.dialer.credit(key, window // 2 - 1)
    assert pair.dialer.credit(key, 1)
    pair.settle()
    assert Writable(key) in pair.take(pair.listener)
    assert pair.listener.window(key) == window // 2


def test_what_is_sent_beyond_the_window_waits_for_credit() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    body = bytes(range(256)) * 4096
    pair.listener.send(key, body)
    pair.listener.finish(key, [("meshnode-done", "1")])
    got = b""
    for _ in range(20):
        pair.settle()
        events = pair.take(pair.dialer)
        data = body_of(events, key)
        pair.dialer.credit(key, len(data))
        got += data
    assert got == body
    assert pair.listener.queued == 0


def test_a_reset_crosses_and_drops_what_was_queued() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"x" * 100_000)
    pair.dialer.reset(key, CANCEL)
    pair.settle()
    assert Reset(key, CANCEL) in pair.take(pair.listener)
    assert pair.listener.queued == 0
    assert pair.listener.streams == pair.dialer.streams == 0
    with pytest.raises(StreamReset):
        pair.listener.send(key, b"more")


def test_a_reset_of_what_is_over_is_nothing() -> None:
    pair = Pair()
    key = pair.ask()
    pair.dialer.reset(key, CANCEL)
    pair.settle()
    pair.dialer.reset(key, CANCEL)
    pair.listener.reset(key, CANCEL)
    assert pair.dialer.records_to_send() == pair.listener.records_to_send() == []


def test_what_was_in_flight_at_a_reset_is_not_answered() -> None:
    pair = Pair()
    key = pair.dialer.open(REQUEST, end=False)
    pair.settle()
    pair.listener.send_head(key, OK)
    for _ in range(3000):
        pair.listener.send(key, b"token")
        pair.listener.records_to_send(limit=5)
    pair.dialer.reset(key, CANCEL)
    pair.settle()
    other = pair.ask()
    pair.listener.send_head(other, OK)
    pair.listener.finish(other)
    pair.settle()
    assert Ended(other) in pair.take(pair.dialer)


def test_late_frames_are_swallowed_without_a_word() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    in_flight = pair.listener.records_to_send()
    for _ in range(50):
        pair.listener.send(key, b"token")
        in_flight += pair.listener.records_to_send()
    pair.listener.finish(key, [("meshnode-done", "1")])
    in_flight += pair.listener.records_to_send()
    pair.dialer.reset(key, CANCEL)
    assert len(pair.dialer.records_to_send()) == 1
    for record in in_flight:
        assert pair.dialer.receive(record, 0.0) == []
    assert pair.dialer.records_to_send() == []
    # Headers were decoded all the same: the next block, which refers to the table, is understood.
    again = pair.ask()
    pair.listener.send_head(again, OK)
    pair.settle()
    assert Head(again, tuple(OK), False) in pair.take(pair.dialer)


def test_no_error_lets_a_finished_answer_out_before_the_reset() -> None:
    pair = Pair()
    key = pair.dialer.open(REQUEST, end=False)
    pair.settle()
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"too large")
    pair.listener.finish(key)
    pair.listener.reset(key, NO_ERROR)
    pair.settle()
    events = pair.take(pair.dialer)
    assert body_of(events, key) == b"too large"
    assert [event for event in events if isinstance(event, Ended | Reset)] == [Ended(key), Reset(key, NO_ERROR)]
    assert pair.dialer.streams == pair.listener.streams == 0


def test_goaway_ends_new_streams_and_lets_the_others_finish() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.goaway()
    pair.settle()
    assert GoneAway() in pair.take(pair.dialer)
    with pytest.raises(LinkClosed):
        pair.dialer.open(REQUEST, end=True)
    with pytest.raises(LinkClosed):
        pair.listener.open(REQUEST, end=True)
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"the rest")
    pair.listener.finish(key)
    pair.settle()
    events = pair.take(pair.dialer)
    assert body_of(events, key) == b"the rest"
    assert Ended(key) in events
    assert pair.take(pair.dialer) == []


def test_a_stream_that_crosses_a_goaway_is_refused() -> None:
    pair = Pair()
    pair.settle()
    key = pair.dialer.open(REQUEST, end=True)
    pair.listener.goaway()
    pair.settle()
    assert Reset(key, REFUSED_STREAM) in pair.take(pair.dialer)


def test_one_stream_too_many_is_refused_here() -> None:
    pair = Pair(replace(SECTION, streams=3))
    for _ in range(3):
        pair.ask()
    with pytest.raises(StreamReset) as refused:
        pair.dialer.open(REQUEST, end=True)
    assert refused.value.code == REFUSED_STREAM


def test_one_stream_too_many_is_refused_by_the_peer_and_the_link_lives() -> None:
    pair = Pair()
    pair.listener = Mux(False, replace(SECTION, streams=3))
    pair.seen[pair.listener] = []
    keys = [pair.ask(b"body") for _ in range(4)]
    refused = [event for event in pair.take(pair.dialer) if isinstance(event, Reset)]
    assert refused == [Reset(keys[3], REFUSED_STREAM)]
    pair.listener.send_head(keys[0], OK)
    pair.listener.finish(keys[0])
    pair.settle()
    assert Ended(keys[0]) in pair.take(pair.dialer)
    pair.ask()
    assert not [event for event in pair.take(pair.dialer) if isinstance(event, Reset)]


def test_a_ping_gives_the_time_it_took() -> None:
    pair = Pair()
    pair.settle()
    pair.dialer.ping(now=10.0)
    pair.now = 10.25
    pair.settle()
    assert pair.take(pair.dialer)[-1] == Ponged(0.25)


def test_headers_of_one_connection_stay_behind() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, [*OK, ("content-length", "5"), ("connection", "close"), ("x-kept", "yes")])
    pair.settle()
    assert Head(key, (*OK, ("x-kept", "yes")), False) in pair.take(pair.dialer)


def test_a_header_that_cannot_travel_costs_nothing() -> None:
    pair = Pair()
    with pytest.raises(BadRequest):
        pair.dialer.open([*REQUEST, ("x-evil", "a\r\nb: c")], end=True)
    assert pair.dialer.streams == 0
    assert pair.ask() == 2


@pytest.mark.parametrize("premature", ["send", "finish"])
def test_a_body_before_its_head_is_a_fault_of_ours(premature: str) -> None:
    pair = Pair()
    key = pair.ask()
    with pytest.raises(ValueError, match="before its head"):
        getattr(pair.listener, premature)(key, *([b"x"] if premature == "send" else []))


class Hostile:
    """A member that speaks h2 by hand to a listener."""

    def __init__(self, section: MeshSection = SECTION) -> None:
        self.mux = Mux(False, section)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.say(self.h2.data_to_send())

    def say(self, data: bytes, now: float = 0.0) -> None:
        for at in range(0, len(data), 60_000):
            self.mux.receive(b"\x00" + data[at : at + 60_000], now)

    def frame(self, frame: Frame, count: int = 1, now: float = 0.0) -> None:
        self.say(frame.serialize() * count, now)

    def request(self) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, REQUEST)
        self.say(self.h2.data_to_send())
        return number


def test_a_huge_frame_is_refused_by_its_header() -> None:
    hostile = Hostile()
    with pytest.raises(ProtocolViolation, match="frame of 16777215 bytes"):
        hostile.say(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")


@pytest.mark.parametrize(
    "frame",
    [
        PriorityFrame(1, stream_weight=3),
        DataFrame(99, b"for no stream"),
        SettingsFrame(0, settings={0x4: 2**31}),
    ],
    ids=["priority", "data", "settings"],
)
def test_a_broken_rule_kills_the_mux(frame: Frame) -> None:
    hostile = Hostile()
    with pytest.raises(ProtocolViolation):
        hostile.frame(frame)
    with pytest.raises(ProtocolViolation, match="failed before"):
        hostile.mux.records_to_send()
    with pytest.raises(ProtocolViolation, match="failed before"):
        hostile.mux.open(REQUEST, end=True)


@pytest.mark.parametrize("record", [b"", b"\x02rest", b"\x00GET / HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_records_that_are_not_ours_kill_the_mux(record: bytes) -> None:
    mux = Mux(False, SECTION)
    with pytest.raises(ProtocolViolation):
        mux.receive(record, 0.0)


@given(garbage=st.binary(min_size=1, max_size=200))
@settings(deadline=None, max_examples=200)
def test_garbage_is_a_violation_or_nothing(garbage: bytes) -> None:
    hostile = Hostile()
    hostile.request()
    try:
        hostile.say(garbage)
    except ProtocolViolation:
        return
    assert hostile.mux.streams <= 2


def test_more_data_than_the_window_kills_the_mux() -> None:
    hostile = Hostile()
    number = hostile.request()
    chunk = DataFrame(number, b"x" * 16_384)
    with pytest.raises(ProtocolViolation, match="FlowControlError"):
        hostile.frame(chunk, 17)


def test_opening_and_cancelling_without_end_kills_the_mux() -> None:
    hostile = Hostile(replace(SECTION, streams=8, resets_per_min=5))
    with pytest.raises(ProtocolViolation, match="too many resets"):
        for _ in range(9):
            number = hostile.request()
            hostile.h2.reset_stream(number)
            hostile.say(hostile.h2.data_to_send())


def test_cancelling_now_and_then_is_fine() -> None:
    hostile = Hostile(replace(SECTION, streams=8, resets_per_min=60))
    for second in range(100):
        number = hostile.request()
        hostile.h2.reset_stream(number)
        hostile.say(hostile.h2.data_to_send(), now=float(second))
    assert hostile.mux.streams == 0


@pytest.mark.parametrize("frame", [PingFrame(0, b"12345678"), RstStreamFrame(1), SettingsFrame(0)])
def test_a_flood_of_control_frames_kills_the_mux(frame: Frame) -> None:
    hostile = Hostile(replace(SECTION, control_frames_per_min=100))
    number = hostile.request()
    hostile.h2.reset_stream(number)
    hostile.say(hostile.h2.data_to_send())
    with pytest.raises(ProtocolViolation, match="too many control frames"):
        hostile.frame(frame, 110)


def test_asking_on_without_end_where_all_is_refused_kills_the_mux() -> None:
    hostile = Hostile(replace(SECTION, streams=4, control_frames_per_min=50))
    with pytest.raises(ProtocolViolation, match="too many control frames"):
        for _ in range(60):
            hostile.request()
    assert hostile.h2.highest_outbound_stream_id > 80


def test_whoever_ends_most_streams_well_may_cancel_others() -> None:
    hostile = Hostile(replace(SECTION, streams=8, resets_per_min=1))
    for _ in range(50):
        for _ in range(2):
            number = hostile.h2.get_next_available_stream_id()
            hostile.h2.send_headers(number, REQUEST, end_stream=True)
            hostile.say(hostile.h2.data_to_send())
            hostile.mux.reset(StreamKey(number << 1), CANCEL)
        number = hostile.request()
        hostile.h2.reset_stream(number)
        hostile.say(hostile.h2.data_to_send())
    assert hostile.mux.streams == 0
