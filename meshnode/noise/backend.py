"""noiseprotocol's cryptography for our one suite, with less around it: a quarter off a handshake's CPU.

A handshake hashes and derives some seventy times; noiseprotocol makes several objects for each. Not for handshakes
(session.py). The published vectors of our suite run through this backend too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from noise.backends.default.backend import DefaultNoiseBackend
from noise.backends.default.ciphers import ChaCha20Cipher
from noise.backends.default.hashes import SHA256Hash
from noise.backends.default.keypairs import KeyPair25519 as KeyPair

__all__ = ["BACKEND", "KeyPair"]


HASH_BYTES = 32


class _Sha256(SHA256Hash):
    def hash(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()


class _ChaCha(ChaCha20Cipher):
    """Sets its key up at the first use: half the keys that a handshake derives are mixed on before they encrypt."""

    def initialize(self, key: bytes) -> None:
        self.cipher = None

    def encrypt(self, k: bytes, n: int, ad: bytes, plaintext: bytes) -> bytes:
        self.cipher = self.cipher or self.klass(k)
        return bytes(super().encrypt(k, n, ad, plaintext))  # type: ignore[no-untyped-call]

    def decrypt(self, k: bytes, n: int, ad: bytes, ciphertext: bytes) -> bytes:
        self.cipher = self.cipher or self.klass(k)
        return bytes(super().decrypt(k, n, ad, ciphertext))  # type: ignore[no-untyped-call]


class _Backend(DefaultNoiseBackend):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.hashes = {"SHA256": _Sha256}
        self.ciphers = {"ChaChaPoly": _ChaCha}
        self.diffie_hellmans = {"25519": self.diffie_hellmans["25519"]}
        self.keypairs = {"25519": KeyPair}
        self.hkdf = _hkdf


def _hkdf(chaining_key: bytes, material: bytes, outputs: int, hmac_hash_fn: Callable[..., bytes]) -> list[bytes]:
    """Noise's HKDF is RFC 5869's with the chaining key as salt and no info (Noise specification, section 4.3)."""
    size = outputs * HASH_BYTES
    okm = HKDF(hashes.SHA256(), size, salt=chaining_key, info=b"").derive(material)
    return [okm[at : at + HASH_BYTES] for at in range(0, size, HASH_BYTES)]


BACKEND = _Backend()
"""Knows one suite: a name that is not ours is refused by noiseprotocol itself."""
