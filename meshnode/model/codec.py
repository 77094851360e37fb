"""Canonical CBOR in, canonical CBOR out: the only importer of cbor2.

What is decoded was canonical (RFC 8949 §4.2.3; for text keys, the only ones in use, §4.2.1 orders the same), bounded
in size and depth, without tags, duplicates, indefinite lengths, non-finite floats or unnamed simple values; then a
typed schema (msgspec) checks names, types and ranges. Not for JSON (dialects).
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

_EXPONENTS = {25: 0x7C00, 26: 0x7F80_0000, 27: 0x7FF0_0000_0000_0000}
"""The exponent's bits in a float of 2, 4 and 8 bytes, by the head that announces it."""


def encode(value: Any) -> bytes:
    """Canonical CBOR of builtin values or msgspec structs. Raises DecodeError for text that is not Unicode."""
    try:
        return cbor2.dumps(msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_plain), canonical=True)
    except UnicodeEncodeError as error:  # lone surrogates, as file names and the environment bring them
        raise DecodeError(f"text that no decoder would take: {error}") from error


def _plain(value: Any) -> bytes:
    """Ids are bytes with manners; on the wire they are bytes."""
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"{type(value).__name__} has no wire form")


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
        # With bytes as a builtin, a text in the place of bytes is refused instead of read as base64.
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, DecodeError) as error:
        raise DecodeError(f"CBOR does not fit {getattr(kind, '__name__', 'the schema')}: {error}") from error


def _check_simple(info: int, argument: int) -> None:
    """Only false, true, null and finite floats: an exponent of all ones is an infinity or not a number (IEEE 754)."""
    exponent = _EXPONENTS.get(info)
    if exponent is None:
        if info not in (20, 21, 22):
            raise DecodeError("CBOR with an unnamed simple value")
    elif argument & exponent == exponent:
        raise DecodeError("CBOR with a float that is not finite")


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
        if major == 7:
            _check_simple(info, argument)
        elif major in (2, 3):
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
