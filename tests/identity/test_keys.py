from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import IdentityError
from meshnode.identity import MeshRoot, NodeKey, verify

CONTEXT = b"meshnode test 1\x00"


def test_a_seed_gives_the_public_key_of_rfc_8032() -> None:
    # RFC 8032 section 7.1, test 1.
    key = NodeKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.id.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_a_seed_restores_the_key() -> None:
    key = NodeKey.generate()
    assert NodeKey.from_seed(key.seed).id == key.id
    assert NodeKey.generate().id != key.id


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=30)
def test_what_was_signed_verifies_and_nothing_else(body: bytes) -> None:
    key = NodeKey.from_seed(b"k" * 32)
    signature = key.sign(CONTEXT, body)
    assert verify(key.id, CONTEXT, body, signature)
    assert not verify(key.id, CONTEXT, body + b"x", signature)
    assert not verify(key.id, b"meshnode other 1\x00", body, signature)
    assert not verify(NodeKey.from_seed(b"o" * 32).id, CONTEXT, body, signature)


def test_every_bit_of_a_signature_counts() -> None:
    key = NodeKey.generate()
    signature = key.sign(CONTEXT, b"body")
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << (bit % 8)
        assert not verify(key.id, CONTEXT, b"body", bytes(changed))


@pytest.mark.parametrize("node", [b"", bytes(31), bytes(33)])
def test_an_id_that_is_no_key_verifies_nothing(node: bytes) -> None:
    assert not verify(node, CONTEXT, b"", bytes(64))


def test_a_signature_cut_short_is_wrong() -> None:
    key = NodeKey.generate()
    assert not verify(key.id, CONTEXT, b"body", key.sign(CONTEXT, b"body")[:-1])


@pytest.mark.parametrize("context", [b"", b"no end", b"\x00\x00", b"two\x00ends\x00", b"in\x00side"])
def test_a_context_that_could_be_anothers_prefix_is_refused(context: bytes) -> None:
    with pytest.raises(ValueError, match="context"):
        NodeKey.generate().sign(context, b"")
    with pytest.raises(ValueError, match="context"):
        verify(bytes(32), context, b"", bytes(64))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(IdentityError, match="32"):
        MeshRoot.from_seed(bytes(size))


def test_keys_do_not_show_themselves() -> None:
    key = NodeKey.generate()
    assert repr(key.seed) not in repr(key) and key.seed.hex() not in repr(key)
