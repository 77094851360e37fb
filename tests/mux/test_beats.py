"""Signs of life of an answer that has nothing to say yet: before its head, after it, and from who sends too many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.errors import ProtocolViolation, StreamReset
from meshnode.mux import CANCEL, Beat, Data, Ended, Head, Opened, headers, incoming
from tests.mux.pair import OK, REQUEST, Pair, body_of

FEW = replace(MeshSection(), control_frames_per_min=10)


def beat(pair: Pair, key: int, times: int = 1) -> None:
    for _ in range(times):
        pair.listener.beat(key)  # type: ignore[arg-type]
    pair.settle()


def test_beats_before_the_head_and_after_it_arrive_as_beats() -> None:
    pair = Pair()
    key = pair.ask(b"prompt")
    pair.take(pair.dialer)
    beat(pair, key)
    assert pair.take(pair.dialer) == [Beat(key)]
    pair.listener.send_head(key, OK)
    beat(pair, key)
    pair.listener.send(key, b"token")
    pair.settle()
    beat(pair, key)
    assert pair.take(pair.dialer) == [Head(key, tuple(OK), False), Beat(key), Data(key, b"token", 5), Beat(key)]
    pair.listener.finish(key, [("meshnode-done", "1")])
    pair.settle()
    assert Ended(key) in pair.take(pair.dialer)
    assert pair.dialer.streams == pair.listener.streams == 0


def test_a_beat_before_the_head_tells_a_place_in_a_queue() -> None:
    pair = Pair()
    key = pair.ask(b"prompt")
    for place in (12, 999_999, 1_000_000, -1, 0):
        pair.listener.beat(key, place)
    pair.settle()
    beats = [event for event in pair.take(pair.dialer) if isinstance(event, Beat)]
    assert beats == [Beat(key, 12), Beat(key, 999_999), Beat(key), Beat(key), Beat(key)]
    pair.listener.send_head(key, OK)
    pair.listener.beat(key, 3)
    pair.settle()
    assert pair.take(pair.dialer) == [Head(key, tuple(OK), False), Beat(key)]


def test_a_beat_before_the_head_tells_that_an_engine_is_mute() -> None:
    pair = Pair()
    key = pair.ask(b"prompt")
    pair.listener.beat(key, mute=True)
    pair.listener.beat(key, 2, mute=True)
    pair.settle()
    beats = [event for event in pair.take(pair.dialer) if isinstance(event, Beat)]
    assert beats == [Beat(key, 0, True), Beat(key, 2, True)]
    pair.listener.send_head(key, OK)
    pair.listener.beat(key, mute=True)
    pair.settle()
    assert pair.take(pair.dialer) == [Head(key, tuple(OK), False), Beat(key)]


@given(st.integers(1, 999_999))
def test_a_place_is_read_as_it_was_written(number: int) -> None:
    assert headers.read_place([(name.decode(), value.decode()) for name, value in headers.place(number)]) == number


@given(st.one_of(st.text(max_size=9), st.from_regex(r"[0-9]{1,9}", fullmatch=True)))
def test_whatever_a_peer_says_of_a_place_is_a_small_number(said: str) -> None:
    assert 0 <= headers.read_place([(":status", "102"), (headers.PLACE, said)]) <= 999_999


def test_a_beat_comes_while_the_request_is_still_being_sent() -> None:
    pair = Pair()
    key = pair.dialer.open(REQUEST, end=False)
    pair.dialer.send(key, b"half")
    pair.settle()
    beat(pair, key)
    assert Beat(key) in pair.take(pair.dialer)
    pair.dialer.send(key, b" and half")
    pair.dialer.finish(key)
    pair.settle()
    assert body_of(pair.take(pair.listener), key) == b"half and half"


def test_a_beat_overtakes_bytes_that_wait_for_credit() -> None:
    pair = Pair(replace(MeshSection(), stream_window_bytes=65_535))
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.send(key, b"x" * 100_000)
    pair.settle()
    assert len(body_of(pair.take(pair.dialer), key)) == 65_535
    beat(pair, key)
    assert pair.take(pair.dialer) == [Beat(key)]


def test_a_padded_stream_beats_too() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.pad(key)
    pair.listener.send(key, b"token")
    pair.settle()
    pair.take(pair.dialer)
    beat(pair, key)
    assert pair.take(pair.dialer) == [Beat(key)]


def test_a_stream_that_is_over_has_no_beat() -> None:
    pair = Pair()
    key = pair.ask()
    pair.dialer.reset(key, CANCEL)
    pair.settle()
    with pytest.raises(StreamReset):
        pair.listener.beat(key)


def test_all_streams_of_a_link_may_beat_at_the_usual_pace_for_an_hour() -> None:
    pair = Pair(FEW)
    keys = [pair.ask() for _ in range(200)]
    for key in keys[::2]:
        pair.listener.send_head(key, OK)
    for _ in range(12 * 60):
        pair.now += 5.0
        for key in keys:
            pair.listener.beat(key)
        pair.settle()
    assert sum(isinstance(event, Beat) for event in pair.take(pair.dialer)) == 200 * 12 * 60


def test_beats_that_a_slow_pipe_held_back_may_come_together() -> None:
    pair = Pair(FEW)
    keys = [pair.ask() for _ in range(200)]
    for key in keys:
        beat(pair, key)
    pair.now += 30.0
    for key in keys:
        beat(pair, key, 6)
    assert pair.dialer.streams == 200


@pytest.mark.parametrize("headed", [False, True], ids=["before the head", "after it"])
def test_beats_beyond_that_cost_the_link(headed: bool) -> None:
    pair = Pair(FEW)
    key = pair.ask()
    if headed:
        pair.listener.send_head(key, OK)
    with pytest.raises(ProtocolViolation, match="control frames"):
        beat(pair, key, incoming.BEATS + 12)


def test_beats_of_an_answer_that_was_cancelled_meanwhile_are_forgiven() -> None:
    pair = Pair(FEW)
    for number in range(50):
        key = pair.ask()
        if number % 2:
            pair.listener.send_head(key, OK)
        pair.listener.beat(key)
        pair.dialer.reset(key, CANCEL)
        pair.settle()
    assert pair.dialer.streams == pair.listener.streams == 0


@given(st.lists(st.tuples(st.sampled_from(["beat", "head", "data", "wait"]), st.integers(1, 9)), max_size=60))
def test_whatever_comes_between_them_beats_never_exceed_their_pace(steps: list[tuple[str, int]]) -> None:
    pair = Pair()
    key = pair.ask()
    headed, began, told = False, None, 0
    for what, count in steps:
        match what:
            case "wait":
                pair.now += count
            case "head" if not headed:
                headed = True
                pair.listener.send_head(key, OK)
            case "data" if headed:
                pair.listener.send(key, b"x" * count)
            case "beat":
                began = pair.now if began is None else began
                for _ in range(count):
                    pair.listener.beat(key)
        pair.settle()
        told += sum(isinstance(event, Beat) for event in pair.take(pair.dialer))
        assert began is None or told <= incoming.BEATS + (pair.now - began) / incoming.BEATS_S
    assert not [event for event in pair.take(pair.listener) if isinstance(event, Beat | Opened)][1:]
