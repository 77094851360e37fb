"""What a node shows of itself, and what an operator signs with: a statement kept in a home, a key in a file of its own.

Synchronous, as everything here. Not for judging either (trust.attestation).
"""

from __future__ import annotations

from pathlib import Path

from meshnode.errors import DecodeError, SecretFileError
from meshnode.identity import NodeKey
from meshnode.keep.secrets import create_secret, read_secret, write_secret
from meshnode.trust import SignedStatement

STATEMENT = "statement.cbor"

_KEY_WORDS = "meshnode operator key 1"


def load_statement(home: Path) -> SignedStatement | None:
    """What an operator said of this node, unchecked; None where nobody did. Raises SecretFileError."""
    path = home / STATEMENT
    data = read_secret(path, limit=4096)
    try:
        return SignedStatement.unpack(data) if data is not None else None
    except DecodeError as error:
        raise SecretFileError(f"{path} is damaged ({error}): keep the operator's statement again") from error


def save_statement(home: Path, statement: SignedStatement) -> None:
    """Keep it, in the place of one before. Raises SecretFileError."""
    write_secret(home / STATEMENT, statement.pack())


def make_key(path: Path) -> NodeKey:
    """A new operator's key in a new file. Raises SecretFileError when there is one already."""
    key = NodeKey.generate()
    create_secret(path, f"{_KEY_WORDS} {key.seed.hex()}\n".encode())
    return key


def load_key(path: Path) -> NodeKey:
    """The operator's key in a file. Raises SecretFileError."""
    data = read_secret(path, limit=1024)
    if data is None:
        raise SecretFileError(f"there is no key in {path}: make one with `meshnode attest key {path}`")
    words, _, text = data.decode(errors="replace").strip().rpartition(" ")
    try:
        seed = bytes.fromhex(text) if words == _KEY_WORDS else b""
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise SecretFileError(f"{path} is no operator's key")
    return NodeKey.from_seed(seed)
