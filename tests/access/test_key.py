"""What an API key looks like, and where it is read from."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.access import credentials, digest_of, key_of

KEY = key_of(bytes(32))


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_the_form_of_one_and_is_kept_as_a_hash(random: bytes) -> None:
    key = key_of(random)
    assert key.startswith("mk_") and len(key) == 46 and key.isascii()
    assert digest_of(key) == hashlib.sha256(key.encode()).digest()
    assert credentials({"authorization": f"Bearer {key}"}) == (key,)
    assert credentials({"x-api-key": key}) == (key,)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_two_keys_are_the_same_only_where_their_bytes_are(one: bytes, other: bytes) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_all_its_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        key_of(bytes(length))


@pytest.mark.parametrize(
    "text", ["", "mk_", KEY[:-1], KEY + "A", KEY + "\n", "sk_" + KEY[3:], KEY[:-1] + "é", KEY[:-1] + "=", f" {KEY}"]
)
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert digest_of(text) is None


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, ()),
        ({"authorization": f"bearer   {KEY}"}, (KEY,)),
        ({"authorization": "Bearer a", "x-api-key": "b"}, ("a", "b")),
        ({"authorization": f"Basic {KEY}"}, ()),
        ({"authorization": KEY}, ()),
        ({"authorization": f"Bearer {KEY}, Bearer {KEY}"}, ()),
        ({"authorization": "Bearer "}, ()),
        ({"authorization": f"Bearer {KEY} "}, ()),
        ({"authorization": "Bearer é"}, ()),
        ({"authorization": "Bearer " + "a" * 129}, ()),
        ({"x-api-key": ""}, ()),
        ({"x-api-key": "a b"}, ()),
        ({"x-api-key": "a" * 129}, ()),
        ({"api-key": KEY, "cookie": KEY, "proxy-authorization": f"Bearer {KEY}"}, ()),
    ],
)
def test_credentials_are_read_from_what_clients_send(headers: dict[str, str], found: tuple[str, ...]) -> None:
    assert credentials(headers) == found
