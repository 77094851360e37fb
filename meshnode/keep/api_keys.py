"""The file of API keys in a home: hashes and what each is for, never a key. Written whole, 0600, as all of a home.

Synchronous. Not for what a key may do (access).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.access import MOST_KEYS, KeyRecord, Ring
from meshnode.errors import DecodeError, SecretFileError
from meshnode.keep.secrets import read_secret, write_secret
from meshnode.model import codec

FILE = "keys.cbor"

MAX_FILE_BYTES = 16 << 20
"""MOST_KEYS of the largest; an ordinary one has 200 bytes."""


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="meshnode keys 1", tag_field="t"):
    keys: Annotated[tuple[KeyRecord, ...], Meta(max_length=MOST_KEYS)]


def load_keys(home: Path) -> Ring:
    """The keys kept; none where there is no file. Raises SecretFileError: a file that cannot be read opens no door."""
    path = home / FILE
    data = read_secret(path, limit=MAX_FILE_BYTES)
    if data is None:
        return Ring()
    try:
        return Ring(codec.decode(data, _KeyFile, limit=MAX_FILE_BYTES).keys)
    except DecodeError as error:
        raise SecretFileError(f"{path} is cut short or damaged ({error}): restore it from a copy") from error


def save_keys(home: Path, ring: Ring) -> None:
    """Keep these. Raises SecretFileError."""
    write_secret(home / FILE, codec.encode(_KeyFile(ring.records)))
