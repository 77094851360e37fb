from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.psk import PSK_BYTES, Secrets, derive_key


@given(st.binary(min_size=16, max_size=32), st.binary(max_size=16), st.binary(max_size=16))
@settings(deadline=None, max_examples=50)
def test_keys_of_different_purposes_have_nothing_in_common(secret: bytes, one: bytes, other: bytes) -> None:
    if one == other:
        assert Secrets.derive(secret, one) == Secrets.derive(secret, other)
        return
    first, second = Secrets.derive(secret, one), Secrets.derive(secret, other)
    assert len({first.psk0, first.psk3, second.psk0, second.psk3}) == 4


def test_one_key_is_not_the_secret_it_comes_from() -> None:
    assert len(derive_key(b"s" * 32, b"a")) == PSK_BYTES
    assert len({derive_key(b"s" * 32, b"a"), derive_key(b"s" * 32, b"b"), derive_key(b"t" * 32, b"a"), b"s" * 32}) == 4


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        Secrets(bytes(size), bytes(32))


def test_they_are_not_shown() -> None:
    assert repr(b"s" * 32) not in repr(Secrets(b"s" * 32, b"t" * 32))
