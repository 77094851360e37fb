"""Two pre-shared keys out of one secret: what a member or an invited machine must know before it gets one byte.

Shared by identity (which keeps derived keys instead of an invite's secret) and noise (which mixes them in), so that
there is one derivation. Not for the secrets themselves (identity, keep).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PSK_BYTES = 32
"""A Noise pre-shared key has 32 bytes (Noise specification, section 9)."""

_CONTEXT = b"meshnode psk 1\x00"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of the tokens psk0 and psk3, 32 bytes each. Never shown by `repr`."""

    psk0: bytes = field(repr=False)
    psk3: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.psk0) != PSK_BYTES or len(self.psk3) != PSK_BYTES:
            raise ValueError(f"a pre-shared key has {PSK_BYTES} bytes")

    @classmethod
    def derive(cls, secret: bytes, purpose: bytes) -> Secrets:
        """HKDF-SHA256 (RFC 5869) of `secret`; different `purpose`s give unrelated keys.

        The secret has at least 128 bits of its own; no salt is needed then (RFC 5869 section 3.1).
        """
        okm = _expand(secret, purpose, 2 * PSK_BYTES)
        return cls(okm[:PSK_BYTES], okm[PSK_BYTES:])


def derive_key(secret: bytes, purpose: bytes) -> bytes:
    """One key of 32 bytes in the same way, for what is a secret itself."""
    return _expand(secret, purpose, PSK_BYTES)


def _expand(secret: bytes, purpose: bytes, size: int) -> bytes:
    return HKDF(hashes.SHA256(), size, salt=None, info=_CONTEXT + purpose).derive(secret)
