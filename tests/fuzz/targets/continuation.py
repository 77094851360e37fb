"""A completion that may be continued: whole events come out at any cut, what is remembered is bounded, and what is
asked for the rest is the prompt with exactly the text that came out."""

from __future__ import annotations

import msgspec

from meshnode.dialects import COMPLETION
from meshnode.dialects.continuation import TEXT_CHARACTERS, continuable
from tests.fuzz.kit import Draw, cut, mutate

EVENTS = (
    b'data: {"choices":[{"index":0,"text":"x","finish_reason":null}]}\n\n',
    b'data: {"choices":[{"index":0,"text":"\\ud83d\\ude00"}]}\r\n\r\n',
    b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n',
    b'data: {"error":{"message":"m"}}\n\n',
    b": keepalive\n\n",
    b"data: [DONE]\n\n",
)
BODY = b'{"model":"m","prompt":"p","stream":true,"max_tokens":4}'


def one_input(data: bytes) -> None:
    draw = Draw(data)
    pattern = draw.take(4)
    valid = b"".join(EVENTS[draw.number(len(EVENTS))] for _ in range(draw.number(8)))
    stream = mutate(valid, draw) if valid else draw.rest()
    continuable(COMPLETION, stream)
    talk = continuable(COMPLETION, BODY)
    assert talk is not None
    passed = b"".join(talk.feed(piece) for piece in cut(stream, pattern))
    assert stream.startswith(passed), "bytes were lost or added"
    body = talk.body()
    if body is None:
        return
    asked = msgspec.json.decode(body)
    assert asked["prompt"].startswith("p")
    assert len(asked["prompt"]) <= TEXT_CHARACTERS + 1
    assert asked["max_tokens"] == 4 - talk.pieces
    assert continuable(COMPLETION, body) is not None


def seeds() -> dict[str, bytes]:
    """Streams that can be continued, that have ended, and that are cut."""
    return {
        "whole": b"\x08\x00\x40\xff" + b"\x04\x00\x01\x02\x04",
        "going": b"\xff" * 4 + b"\x02\x00\x01",
        "cut": b"\x04" * 4 + b"\x03\x00\x05\x00" + b"\x04\x50",
    }
