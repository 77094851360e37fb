"""Where members were last reached, so that a node finds its mesh again after a restart without being told.

Hints only: the handshake decides who is there. Kept per mesh, 0600 like everything in a home. Synchronous and small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError
from meshnode.identity.certificates import Key
from meshnode.identity.join import Address
from meshnode.keep.secrets import read_secret, write_secret
from meshnode.model import codec

MOST = 64
"""Addresses kept: any one that answers is enough, gossip brings the others."""


class _AddressFile(msgspec.Struct, frozen=True, tag="meshnode addresses 1", tag_field="t"):
    mesh: Key
    addresses: Annotated[tuple[Address, ...], Meta(max_length=MOST)]


def load_addresses(path: Path, mesh: bytes) -> tuple[str, ...]:
    """Addresses kept for `mesh`; none where the file is missing, damaged or another mesh's: they are only hints."""
    data = read_secret(path)
    if data is None:
        return ()
    try:
        stored = codec.decode(data, _AddressFile, limit=len(data))
    except DecodeError:
        return ()
    return stored.addresses if stored.mesh == mesh else ()


def save_addresses(path: Path, mesh: bytes, addresses: tuple[str, ...]) -> None:
    """Keep these addresses for `mesh`, the first MOST of them. Raises SecretFileError."""
    write_secret(path, codec.encode(_AddressFile(mesh, addresses[:MOST])))
