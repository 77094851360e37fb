"""Addresses that outlive a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import SecretFileError
from meshnode.keep.addresses import MOST, MOST_ADDRESSES, Remembered, load_addresses, save_addresses
from meshnode.model.ids import NodeId

MESH = b"m" * 32


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def test_peers_come_back_in_their_order_for_their_mesh_only(tmp_path: Path) -> None:
    path = tmp_path / "addresses.cbor"
    assert load_addresses(path, MESH) == ()
    kept = (Remembered(node(2), ("b:1", "[::1]:2")), Remembered(node(1), ("a:1",)))
    save_addresses(path, MESH, kept)
    assert load_addresses(path, MESH) == kept
    assert load_addresses(path, b"o" * 32) == ()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_first_peers_and_addresses_are_kept_however_long_they_are(tmp_path: Path) -> None:
    path = tmp_path / "addresses.cbor"
    addresses = tuple(f"{n:0>126}:1" for n in range(MOST_ADDRESSES + 4))
    save_addresses(path, MESH, [Remembered(node(n), (*addresses, "x" * 200)) for n in range(MOST + 9)])
    kept = load_addresses(path, MESH)
    assert [one.id for one in kept] == [node(n) for n in range(MOST)]
    assert all(one.addresses == addresses[:MOST_ADDRESSES] for one in kept)


def test_what_is_too_long_or_twice_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "addresses.cbor"
    save_addresses(path, MESH, [Remembered(node(1), ("x" * 129, "a:1", "a:1"))])
    assert load_addresses(path, MESH) == (Remembered(node(1), ("a:1",)),)


@given(st.binary(max_size=300))
def test_a_damaged_file_is_no_hint(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("home", numbered=True) / "addresses.cbor"
    path.write_bytes(data)
    path.chmod(0o600)
    assert load_addresses(path, MESH) == ()


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "addresses.cbor"
    save_addresses(path, MESH, [])
    path.chmod(0o666)
    with pytest.raises(SecretFileError):
        load_addresses(path, MESH)
