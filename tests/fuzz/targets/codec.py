"""Canonical CBOR: what is read is written again to the very same bytes, and what is written is read as it was."""

from __future__ import annotations

from typing import Any

from meshnode.errors import DecodeError
from meshnode.model import codec
from tests.fuzz.kit import Draw, mutate

DEPTH = 5


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _read(draw.rest())
        return
    value = _value(draw, DEPTH)
    valid = codec.encode(value)
    if len(valid) <= codec.MAX_BYTES:
        assert codec.decode(valid, object) == value
        _read(mutate(valid, draw))


def _read(data: bytes) -> None:
    try:
        value = codec.decode(data, object)
    except DecodeError:
        return
    if _has_text_keys(value):
        assert codec.encode(value) == data, "a second spelling"


def _has_text_keys(value: Any) -> bool:
    """Every schema in use names its keys; what other keys a map may have is for it to refuse."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(map(_has_text_keys, value))


def _value(draw: Draw, depth: int) -> Any:
    match draw.number(8 if depth else 6):
        case 0:
            return draw.number(2**16)
        case 1:
            return -1 - draw.number(2**64)
        case 2:
            return draw.some(40)
        case 3:
            return draw.some(40).decode("latin-1")
        case 4:
            return (None, True, False)[draw.number(3)]
        case 5:
            return draw.number(2**20) / 64
        case 6:
            return [_value(draw, depth - 1) for _ in range(draw.number(8))]
        case _:
            return {draw.some(8).decode("latin-1"): _value(draw, depth - 1) for _ in range(draw.number(8))}


def seeds() -> dict[str, bytes]:
    """Each kind of item, and the bombs that cbor2 alone would take."""
    return {
        "a-map": b"\x01" + codec.encode({"id": b"x" * 32, "models": [{"name": "a", "c": 4096}], "on": True}),
        "numbers": b"\x01" + codec.encode([0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**64 - 1, -1, -(2**64), 1.5]),
        "text": b"\x01" + codec.encode(["", "a", "\u00e9\u4e16", None, False]),
        "deep": b"\x01" + b"\x81" * 16 + b"\x00",
        "many-announced": b"\x01" + b"\x9b" + b"\xff" * 8,
        "indefinite": b"\x01" + b"\x9f\x01\xff",
        "tagged": b"\x01" + b"\xc2\x49\x01" + bytes(8),
        "made": b"\x00\x07\x03\x01a\x00\x00\x10\x01b\x06\x02\x05\x00\x10\x00\x02\x03xyz\x01c\x04\x01",
    }
