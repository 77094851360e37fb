"""noiseprotocol's cryptography for our one suite, with hashing by the standard library: a third off a handshake's CPU.

A handshake hashes some fifty short strings; cryptography's objects for that cost three times hashlib's. Keys and
ciphers stay cryptography's. Not for handshakes (session.py). The published vectors run through this backend too.
"""

from __future__ import annotations

import hashlib
import hmac

from noise.backends.default.backend import DefaultNoiseBackend
from noise.backends.default.ciphers import ChaCha20Cipher
from noise.backends.default.hashes import SHA256Hash
from noise.backends.default.keypairs import KeyPair25519 as KeyPair

__all__ = ["BACKEND", "KeyPair"]


class _Sha256(SHA256Hash):
    @property
    def fn(self) -> str:
        return "sha256"

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
        self.hmac = _hmac


def _hmac(key: bytes, data: bytes, algorithm: str) -> bytes:
    return hmac.digest(key, data, algorithm)


BACKEND = _Backend()
"""Knows one suite: a name that is not ours is refused by noiseprotocol itself."""
