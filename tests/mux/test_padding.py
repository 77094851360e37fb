"""Padded streams: sizes of DATA show only in classes, and nothing else about them changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.mux.mux import PAD_BYTES
from tests.kit.frames import PREFACE
from tests.mux.pair import OK, Pair, body_of

SECTION = MeshSection()


@given(st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=8), st.booleans())
def test_every_size_on_the_wire_is_of_a_class_and_the_bytes_arrive(chunks: list[bytes], at_once: bool) -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.pad(key)
    sizes: list[int] = []
    for chunk in chunks:
        pair.listener.send(key, chunk)
        if not at_once:
            sizes += flush(pair)
    pair.listener.finish(key, [("meshnode-done", "1")])
    for _ in range(200):
        sizes += flush(pair)
    assert sizes
    assert all(size % PAD_BYTES == 0 for size in sizes)
    assert body_of(pair.seen[pair.dialer], key) == b"".join(chunks)
    assert pair.listener.streams == pair.dialer.streams == 0


def frames_of(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and payload size of each frame."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        yield data[at + 3], size
        at += 9 + size


def flush(pair: Pair) -> list[int]:
    """Carry one flush of the listener and the dialer's credit; payload sizes of the DATA that has a body."""
    records = pair.listener.records_to_send()
    # The dialer's requests are connection 0; a long flush cuts frames at the ends of records.
    answers = b"".join([record[1:] for record in records if record[0] == 0])
    sizes = [size for kind, size in frames_of(answers) if kind == 0 and size]
    for record in records:
        for event in pair.dialer.receive(record, 0.0):
            pair.seen[pair.dialer].append(event)
            if hasattr(event, "flow"):
                pair.dialer.credit(event.key, event.flow)
    pair.carry(pair.dialer)
    return sizes


def test_single_bytes_look_like_a_whole_class_and_cost_one() -> None:
    pair = Pair()
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.pad(key)
    flush(pair)
    before = pair.listener.window(key)
    pair.listener.send(key, b"a")
    assert flush(pair) == [PAD_BYTES]
    assert before - pair.listener.window(key) == PAD_BYTES


def test_a_padded_stream_waits_for_credit_and_goes_on() -> None:
    pair = Pair(replace(SECTION, stream_window_bytes=65_535))
    key = pair.ask()
    pair.listener.send_head(key, OK)
    pair.listener.pad(key)
    body = b"x" * 500_000
    pair.listener.send(key, body)
    pair.listener.finish(key)
    for _ in range(100):
        flush(pair)
    assert body_of(pair.seen[pair.dialer], key) == body


def test_a_padded_request_is_padded_too() -> None:
    pair = Pair()
    key = pair.dialer.open([(":method", "POST"), (":scheme", "mesh"), (":authority", "m"), (":path", "/x")], end=False)
    pair.dialer.pad(key)
    pair.dialer.send(key, b"prompt")
    pair.dialer.finish(key)
    asked = b"".join([record[1:] for record in pair.dialer.records_to_send() if record[0] == 0])
    sizes = [size for kind, size in frames_of(asked.removeprefix(PREFACE)) if kind == 0 and size]
    assert sizes == [PAD_BYTES]
