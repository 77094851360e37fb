"""Streams are copied whole, counted and judged, whatever the cut of their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dialects import WholeEvents, event_error, first_event_is_error
from meshnode.dialects.sse import HELD_BYTES
from meshnode.errors import EngineFailed

DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a\\n\\ndata: b"},"finish_reason":null}],"usage":null}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"

cuts = st.lists(st.integers(1, 400), max_size=60)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


class TestWholeEvents:
    @given(cuts, st.sampled_from([b"\n\n", b"\r\n\r\n"]))
    @settings(deadline=None, max_examples=300)
    def test_passes_everything_and_cuts_only_between_events(self, sizes: list[int], end: bytes) -> None:
        stream = (DELTA * 5 + DONE).replace(b"\n\n", end) + b"data: unfinished"
        events = WholeEvents()
        passed = [events.feed(piece) for piece in cut(stream, sizes)]
        assert all(not piece or piece.endswith(end) for piece in passed)
        assert events.at_boundary
        assert b"".join(passed) + events.rest() == stream

    def test_a_line_end_alone_is_no_boundary(self) -> None:
        events = WholeEvents()
        assert [events.feed(piece) for piece in (b"data: a\r", b"\n", b"\r", b"\n")] == [
            b"",
            b"",
            b"",
            b"data: a\r\n\r\n",
        ]

    def test_an_endless_event_is_passed_on(self) -> None:
        events = WholeEvents()
        assert events.feed(b"data: " + b"x" * HELD_BYTES) != b""
        assert not events.at_boundary
        assert events.feed(b"y\n\n") == b"y\n\n"
        assert events.at_boundary


@pytest.mark.parametrize(
    ("chunk", "is_error"),
    [
        (event_error(EngineFailed("died")), True),
        (b": hello\n\n" + event_error(EngineFailed("died")), True),
        (b'event: error\ndata: {"message":"x"}\n\n', True),
        (b'data: {"id":1,"error":{"message":"x"}}\n\n', True),
        (b'data: {"error":null,"choices":[{}]}\n\n', False),
        (DELTA, False),
        (b'data: {"id":1,"error":null,"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n', False),
        (b"", False),
        (b": keepalive\n\n", False),
        (ROLE + event_error(EngineFailed("died")), True),
        (ROLE + DELTA + event_error(EngineFailed("died")), False),
        (b'{"error": {"message": "out of memory"}}', True),
        (b'{"error": "out of memory"}\n', True),
        (b'{"id": "r", "output": [], "error": null}', False),
        (b'{"choices": [{"text": "x"}], "error": {"message": "late"}}', False),
    ],
)
def test_an_error_in_place_of_the_first_event_is_seen(chunk: bytes, is_error: bool) -> None:
    assert first_event_is_error(chunk) is is_error
