"""What an API key looks like and how clients send one: `mk_` and 32 random bytes, as a bearer token or `x-api-key`.

Not for whether a key is known (ring). A key's 256 bits are random, so that one plain hash of it tells nothing.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

KEY_BYTES: Final = 32
KEY_PREFIX: Final = "mk_"
"""So that people, and scanners for secrets that were published, know one when they see it."""

_KEY = re.compile(r"mk_[A-Za-z0-9_-]{43}")
_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,128})", re.IGNORECASE)
_BARE = re.compile(r"[\x21-\x7e]{1,128}")


def key_of(random: bytes) -> str:
    """The key that 32 random bytes make."""
    if len(random) != KEY_BYTES:
        raise ValueError(f"an API key has {KEY_BYTES} random bytes, not {len(random)}")
    return KEY_PREFIX + urlsafe_b64encode(random).rstrip(b"=").decode()


def digest_of(key: str) -> bytes | None:
    """What is kept of a key; None for what has not the form of one."""
    return sha256(key.encode()).digest() if _KEY.fullmatch(key) is not None else None


def credentials(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The credentials that a request carries, in the order of trying: OpenAI's and Ollama's clients send a bearer
    token, Anthropic's `x-api-key`, and some both. Header names are lower case. What has another form is none."""
    found: tuple[str, ...] = ()
    if (text := headers.get("authorization")) is not None and (bearer := _BEARER.fullmatch(text)) is not None:
        found = (bearer[1],)
    if (text := headers.get("x-api-key")) is not None and _BARE.fullmatch(text) is not None:
        return (*found, text)
    return found
