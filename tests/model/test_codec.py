"""The codec against cbor2 itself and against a second, tiny encoder written from RFC 8949."""

from __future__ import annotations

import struct
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import DecodeError
from meshnode.model import codec
from meshnode.model.ids import NodeId

INTEGERS = st.integers(-(2**64), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | INTEGERS | FLOATS | st.binary(max_size=40) | st.text(max_size=40)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=30), inner, max_size=6)
)
MANY = settings(deadline=None, max_examples=300)


def head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    width = next(w for w in (1, 2, 4, 8) if argument < 1 << 8 * w)
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + argument.to_bytes(width, "big")


def shortest_float(value: float) -> bytes:
    for form, lead in ((">e", 0xF9), (">f", 0xFA)):
        try:
            data = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, data)[0] == value:
            return bytes([lead]) + data
    return b"\xfb" + struct.pack(">d", value)


def reference(value: Any) -> bytes:
    """Core deterministic encoding, RFC 8949 §4.2.1, for what JSON holds and bytes."""
    match value:
        case None | True | False:
            return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case float():
            return shortest_float(value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(reference, value))
        case dict():
            pairs = sorted((reference(key), reference(item)) for key, item in value.items())
            return head(5, len(value)) + b"".join(key + item for key, item in pairs)
    raise AssertionError(value)


def decode(data: bytes) -> Any:
    return codec.decode(data, object)


@MANY
@given(VALUES)
def test_encoding_agrees_with_the_rfc_and_comes_back_equal(value: Any) -> None:
    data = codec.encode(value)
    assert data == reference(value)
    assert repr(decode(data)) == repr(sorted_keys(value))


def sorted_keys(value: Any) -> Any:
    """Dictionaries in the order in which their keys travel; repr tells 1, 1.0 and True apart where == does not."""
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value, key=lambda k: (len(k.encode()), k.encode()))}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=1000)
@given(st.binary(max_size=64))
def test_any_bytes_decode_to_what_encodes_to_them_or_not_at_all(data: bytes) -> None:
    try:
        value = decode(data)
    except DecodeError:
        return
    assert cbor2.dumps(value, canonical=True) == data


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_changed_byte_is_another_value_or_an_error(data: st.DataObject) -> None:
    original = codec.encode(data.draw(VALUES))
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[position]))
    try:
        value = decode(bytes(changed))
    except DecodeError:
        return
    assert cbor2.dumps(value, canonical=True) == bytes(changed)


@MANY
@given(VALUES, st.data())
def test_a_cut_or_a_tail_is_an_error(value: Any, data: st.DataObject) -> None:
    encoded = codec.encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=4))
    for wrong in (encoded[:cut], encoded + tail):
        with pytest.raises(DecodeError):
            decode(wrong)


ANY_CBOR = st.recursive(
    LEAVES | st.floats() | st.just(cbor2.undefined) | st.integers(-(2**80), 2**80),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.integers() | st.binary(max_size=4) | st.text(max_size=4), inner, max_size=5)
        | st.builds(cbor2.CBORTag, st.integers(1000, 2000), inner)
    ),
)


@MANY
@given(ANY_CBOR, st.booleans())
def test_whatever_cbor2_writes_is_read_back_or_refused(value: Any, canonical: bool) -> None:
    data = cbor2.dumps(value, canonical=canonical)
    try:
        read = decode(data)
    except DecodeError:
        return
    assert repr(cbor2.loads(data)) == repr(read)
    assert cbor2.dumps(read, canonical=True) == data


def oracle_refuses(data: bytes) -> bool:
    """What cbor2 reports of the whole input when it is asked item by item."""
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError):
        return True
    return cbor2.dumps(value, canonical=True) != data


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_is_judged_as_cbor2_judges_it_or_more_strictly(first: int) -> None:
    """All first bytes with all second bytes, and a few zeros to feed what they announce."""
    for second in range(256):
        for zeros in (0, 1, 8):
            data = bytes([first, second]) + bytes(zeros)
            try:
                decode(data)
            except DecodeError:
                continue
            assert not oracle_refuses(data), data.hex()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "ends early"),
        ("1817", "not canonical"),  # 23 in two bytes
        ("190001", "not canonical"),
        ("fb3ff0000000000000", "not canonical"),  # 1.0 in eight bytes
        ("a2616101616102", "not canonical"),  # {"a": 1, "a": 2}
        ("a2616201616101", "not canonical"),  # {"b", "a"}
        ("9f01ff", "indefinite"),
        ("5f4101ff", "indefinite"),
        ("bf616101ff", "indefinite"),
        ("ff", "indefinite"),
        ("c100", "tags"),
        ("c249010000000000000000", "tags"),
        ("d81c80", "tags"),  # shareable
        ("f97e00", "not finite"),
        ("f97c00", "not finite"),
        ("fa7fc00000", "not finite"),
        ("fbfff0000000000000", "not finite"),
        ("f7", "simple"),
        ("f0", "simple"),
        ("f8ff", "simple"),
        ("0000", "trailing"),
        ("61ff", "not CBOR"),
        ("63eda080", "not CBOR"),
        ("5bffffffffffffffff", "ends early"),
        ("9bffffffffffffffff", "more items"),
        ("bb7fffffffffffffff", "more items"),
        ("bbffffffffffffffff", "more items"),
        ("9a00010000", "more items"),
    ],
)
def test_refuses_and_says_why(data: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(bytes.fromhex(data))


def test_depth_is_bounded_for_every_container() -> None:
    for opening in (b"\x81", b"\xa1\x61a"):
        deepest = opening * (codec.MAX_DEPTH - 1) + b"\x80"
        assert codec.encode(decode(deepest)) == deepest
        for depth in (codec.MAX_DEPTH, 1000, 20_000):
            with pytest.raises(DecodeError, match="deeper"):
                decode(opening * depth + b"\x80")


def test_size_is_bounded_before_anything_is_read() -> None:
    assert decode(codec.encode(bytes(codec.MAX_BYTES - 3))) == bytes(codec.MAX_BYTES - 3)
    with pytest.raises(DecodeError, match="at most"):
        decode(b"\xff" * (codec.MAX_BYTES + 1))
    with pytest.raises(DecodeError, match="at most 9"):
        codec.decode(codec.encode(bytes(9)), bytes, limit=9)


class Shape(msgspec.Struct, frozen=True):
    raw: bytes = b""
    whole: int = 0


@pytest.mark.parametrize(
    "value",
    [{"raw": "aGk="}, {"raw": [104]}, {"whole": 1.0}, {"whole": True}, {"whole": "1"}, {"whole": None}, [], 1, {1: 1}],
)
def test_types_are_exact(value: Any) -> None:
    with pytest.raises(DecodeError, match="Shape"):
        codec.decode(codec.encode(value), Shape)


def test_a_union_of_schemas_is_refused_as_an_error_too() -> None:
    class One(msgspec.Struct, tag=True): ...

    class Two(msgspec.Struct, tag=True): ...

    with pytest.raises(DecodeError, match="schema"):
        codec.decode(codec.encode({"type": "Three"}), One | Two)  # type: ignore[arg-type]


def test_text_that_is_not_unicode_is_refused_on_the_way_out() -> None:
    with pytest.raises(DecodeError):
        codec.encode("\udcff")


def test_a_node_id_travels_as_bytes() -> None:
    node = NodeId(bytes(range(32)))
    assert codec.encode({"ids": [node]}) == codec.encode({"ids": [bytes(node)]})
    with pytest.raises(TypeError, match="object"):
        codec.encode(object())
