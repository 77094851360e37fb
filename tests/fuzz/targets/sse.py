"""Server-sent events: any cut is judged alike, no byte is lost or added, and what is kept is bounded."""

from __future__ import annotations

from meshnode.dialects import SoundStream, WholeEvents, first_event_is_error, from_engines_event, from_event
from meshnode.dialects.sse import HELD_BYTES, TAIL_BYTES
from meshnode.errors import DecodeError
from tests.fuzz.kit import Draw, cut, mutate

EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\r\n\r\n',
    b'event: error\ndata: {"error":{"message":"m"}}\n\n',
    b"data: [DONE]\n\n",
    b": keepalive\n\n",
    b"data: " + b"x" * TAIL_BYTES + b"\n\n",
)


def one_input(data: bytes) -> None:
    draw = Draw(data)
    pattern = draw.take(4)
    valid = b"".join(EVENTS[draw.number(len(EVENTS))] for _ in range(draw.number(8)))
    stream = mutate(valid, draw) if valid else draw.rest()
    if first_event_is_error(stream):
        assert 400 <= from_event(stream).status <= 599
        assert from_engines_event(stream).status in (400, 413, 429, 502)
    _judge(stream, pattern)
    _pass(stream, pattern)


def _judge(stream: bytes, pattern: bytes) -> None:
    ends = []
    for way in (pattern, b""):
        judge, passed, sound = SoundStream(), b"", True
        try:
            for piece in cut(stream, way):
                passed += judge.feed(piece)
            passed += judge.rest()
        except DecodeError:
            sound = False
        assert stream.startswith(passed) and (not sound or passed == stream), "bytes were lost or added"
        end = judge.end()
        ends.append((end.finished, end.failed, end.events, end.usage) if sound else None)
        assert not (end.finished and end.failed)
    assert ends[0] == ends[1], "the cut decides"


def _pass(stream: bytes, pattern: bytes) -> None:
    whole = WholeEvents()
    passed = b""
    for piece in cut(stream, pattern):
        passed += whole.feed(piece)
        if whole.at_boundary:
            assert not passed or passed.endswith((b"\n\n", b"\n\r\n")), "not at a boundary"
        assert len(passed) + HELD_BYTES >= len(stream) or stream.startswith(passed)
    assert passed + whole.rest() == stream, "bytes were lost or added"
    assert whole.rest() == b""


def seeds() -> dict[str, bytes]:
    """Streams that end well, with an error, cut, and with other line ends."""
    return {
        "whole": b"\x08\x00\x40\xff" + b"\x04\x00\x01\x02\x04",
        "error": b"\xff" * 4 + b"\x02\x00\x03",
        "cut": b"\x04" * 4 + b"\x03\x00\x05\x00" + b"\x04\x50",
        "long-event": b"\x80" * 4 + b"\x03\x00\x06\x01",
        "raw": b"\x03" * 4 + b"\x00" + b"\r\n\r\ndata:[DONE]\r\rdata:{}\n\r\n\ndata",
    }
