"""Canonical CBOR in, canonical CBOR out: the only importer of cbor2.

What is decoded was canonical (RFC 8949 §4.2.1), bounded in size and depth, without tags, duplicates or indefinite
lengths; then a typed schema (msgspec) checks names, types and ranges. Not for JSON (dialects).
"""

from __future__ import annotations

import io
from typing import Any, TypeVar

import cbor2
import msgspec

from meshnode.errors import DecodeError

T = TypeVar("T")

MAX_DEPTH = 16
"""Deepest nesting accepted. Adverts need 5; an attacker would like 10^4."""

MAX_BYTES = 65_536
"""Largest control message, as protocol.md §5 bounds control frames."""


def encode(value: Any) -> bytes:
    """Canonical CBOR of builtin values or msgspec structs."""
    return cbor2.dumps(msgspec.to_builtins(value, builtin_types=(bytes,)), canonical=True)


def decode(data: bytes, kind: type[T], *, limit: int = MAX_BYTES) -> T:
    """Decode canonical CBOR into `kind`. Raises DecodeError for anything that `encode` would not have written."""
    if len(data) > limit:
        raise DecodeError(f"{len(data)} bytes of CBOR, at most {limit} are read")
    _check_shape(data)
    try:
        value = cbor2.CBORDecoder(io.BytesIO(data)).decode()
        again = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DecodeError(f"not CBOR: {error}") from error
    if again != data:
        raise DecodeError("CBOR is not canonical")
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, DecodeError) as error:
        raise DecodeError(f"CBOR does not fit {kind.__name__}: {error}") from error


def _check_shape(data: bytes) -> None:
    """Walk the item heads once, without building anything: exactly one item, no tags, no indefinite lengths,
    depth and lengths within the data. Linear, because every head is at least one byte."""
    position = 0
    open_items: list[int] = [1]
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        open_items[-1] -= 1
        if position >= len(data):
            raise DecodeError("CBOR ends early")
        major, info = data[position] >> 5, data[position] & 0x1F
        position += 1
        argument = info
        if info >= 28:
            raise DecodeError("CBOR with an indefinite length or a reserved head")
        if info >= 24:
            width = 1 << (info - 24)
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
        if major == 6:
            raise DecodeError("CBOR tags are refused")
        if major in (2, 3):
            position += argument
        elif major in (4, 5):
            count = argument * (2 if major == 5 else 1)
            if count > len(data) - position:
                raise DecodeError("CBOR announces more items than there are bytes")
            open_items.append(count)
            if len(open_items) > MAX_DEPTH + 1:
                raise DecodeError(f"CBOR nests deeper than {MAX_DEPTH}")
        if position > len(data):
            raise DecodeError("CBOR ends early")
    if position != len(data):
        raise DecodeError("CBOR with trailing bytes")
