"""What was spent on commercial APIs today, so that a restart is no new purse. Synchronous and small.

Kept 0600 like everything in a home. Not for deciding what may be spent (routing.fallback).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError, SecretFileError
from meshnode.keep.secrets import read_secret, write_secret
from meshnode.model import codec
from meshnode.routing.fallback import Spent

MAX_FILE_BYTES = 256


class _SpentFile(msgspec.Struct, frozen=True, tag="meshnode spent 1", tag_field="t"):
    day: Annotated[int, Meta(ge=0, le=2**32)]
    micro: Annotated[int, Meta(ge=0, le=2**60)]


def load_spent(path: Path) -> Spent:
    """What was kept; nothing spent where there is no file. Raises SecretFileError: a purse that cannot be read is not
    full."""
    data = read_secret(path, limit=MAX_FILE_BYTES)
    if data is None:
        return Spent()
    try:
        stored = codec.decode(data, _SpentFile, limit=MAX_FILE_BYTES)
    except DecodeError as error:
        raise SecretFileError(f"{path} does not say what was spent today: remove it to begin anew") from error
    return Spent(stored.day, stored.micro)


def save_spent(path: Path, spent: Spent) -> None:
    """Keep it. Raises SecretFileError."""
    write_secret(path, codec.encode(_SpentFile(spent.day, spent.micro)))
