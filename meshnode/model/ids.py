"""A node's id: its Ed25519 public key, and the forms people read. Not for keys themselves (identity)."""

from __future__ import annotations

import base64
from functools import lru_cache

from meshnode.errors import DecodeError

_ID_BYTES = 32
_TEXT_CHARACTERS = 52

REMEMBERED = 4096
"""Ids of which both forms are remembered: a request between nodes has some ten of them, nearly always the same."""


class NodeId(bytes):
    """32 bytes of Ed25519 public key. Compares and hashes as bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> NodeId:
        if len(raw) != _ID_BYTES:
            raise DecodeError(f"a node id has {_ID_BYTES} bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @property
    def text(self) -> str:
        """The whole id in lower-case base32 without padding (52 characters)."""
        return _text_of(self)

    @property
    def short(self) -> str:
        """Enough of the id for people to tell machines apart: `nq4f-7kta`."""
        head = base64.b32encode(self[:5]).decode().lower()
        return f"{head[:4]}-{head[4:]}"

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """Read what `text` wrote, in either case. Raises DecodeError."""
        return _parsed(text)

    def __repr__(self) -> str:
        return f"NodeId({self.short})"

    __str__ = __repr__


@lru_cache(REMEMBERED)
def _text_of(node: NodeId) -> str:
    return base64.b32encode(node).decode().rstrip("=").lower()


@lru_cache(REMEMBERED)
def _parsed(text: str) -> NodeId:
    """Only what is an id is remembered, and takes 400 bytes: nobody can fill this with more."""
    if len(text) > _TEXT_CHARACTERS:
        raise DecodeError(f"not a node id: {text!r:.80}")
    try:
        node = NodeId(base64.b32decode(text.upper() + "=" * (-len(text) % 8)))
    except ValueError as error:
        raise DecodeError(f"not a node id: {text!r:.80}") from error
    if node.text != text.lower():  # the last letter has four bits to spare: one id, one spelling
        raise DecodeError(f"not a node id: {text!r:.80}")
    return node
