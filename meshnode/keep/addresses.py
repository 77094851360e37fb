"""Where members were last reached, so that a node finds its mesh again after a restart without being told.

Hints only: the handshake decides who is there. Kept per mesh, 0600 like everything in a home. Synchronous and small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError
from meshnode.identity.certificates import Key
from meshnode.identity.join import Address
from meshnode.keep.secrets import read_secret, write_secret
from meshnode.model import codec
from meshnode.model.ids import NodeId

MOST = 64
"""Peers kept: any one that answers is enough, gossip brings the others."""

MOST_ADDRESSES = 8
"""Addresses kept of each: as many as are raced."""

MAX_ADDRESS_CHARACTERS = 128

MAX_FILE_BYTES = 128 * 1024
"""All of them with addresses of the greatest length are half as much."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A peer and the addresses it had, the one that worked last first."""

    id: NodeId
    addresses: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    id: Key
    addresses: Annotated[tuple[Address, ...], Meta(max_length=MOST_ADDRESSES)]


class _AddressFile(msgspec.Struct, frozen=True, tag="meshnode addresses 1", tag_field="t"):
    mesh: Key
    peers: Annotated[tuple[_Entry, ...], Meta(max_length=MOST)]


def load_addresses(path: Path, mesh: bytes) -> tuple[Remembered, ...]:
    """Peers kept for `mesh`; none where the file is missing, damaged or another mesh's: they are only hints.

    Raises SecretFileError for a file that others could have written.
    """
    data = read_secret(path, limit=MAX_FILE_BYTES)
    if data is None:
        return ()
    try:
        stored = codec.decode(data, _AddressFile, limit=MAX_FILE_BYTES)
    except DecodeError:
        return ()
    return tuple(Remembered(NodeId(e.id), e.addresses) for e in stored.peers) if stored.mesh == mesh else ()


def save_addresses(path: Path, mesh: bytes, remembered: Sequence[Remembered]) -> None:
    """Keep these peers for `mesh`, the first MOST of them. Raises SecretFileError."""
    peers = tuple(_Entry(bytes(r.id), _short(r.addresses)) for r in remembered[:MOST])
    write_secret(path, codec.encode(_AddressFile(bytes(mesh), peers)))


def _short(addresses: Sequence[str]) -> tuple[str, ...]:
    """Addresses as the file takes them: each once, none too long."""
    return tuple(dict.fromkeys(a for a in addresses if len(a) <= MAX_ADDRESS_CHARACTERS))[:MOST_ADDRESSES]
