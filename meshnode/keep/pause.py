"""Whether the machine's owner has paused it, so that a restart does not put it to work again. Synchronous and small.

No file is no pause. Kept 0600 like everything in a home. Not for what a pause means (dispatch.share).
"""

from __future__ import annotations

from pathlib import Path

from meshnode.errors import SecretFileError
from meshnode.keep.secrets import read_secret, remove_secret, write_secret
from meshnode.model.takes import Takes

MAX_FILE_BYTES = 16

_WORDS = {b"own": Takes.OWN, b"none": Takes.NOBODYS}
"""Whose requests are still taken."""


def load_pause(path: Path) -> Takes:
    """Whose requests the owner's pause lets in. Raises SecretFileError: a pause that cannot be read is not lifted."""
    data = read_secret(path, limit=MAX_FILE_BYTES)
    if data is None:
        return Takes.EVERYBODYS
    takes = _WORDS.get(data.strip())
    if takes is None:
        raise SecretFileError(f"{path} does not say whether this machine is paused: remove it to lift the pause")
    return takes


def save_pause(path: Path, takes: Takes) -> None:
    """Keep it, durable on return. Raises SecretFileError."""
    if takes is Takes.EVERYBODYS:
        remove_secret(path)
    else:
        write_secret(path, next(word for word, meant in _WORDS.items() if meant is takes) + b"\n")
