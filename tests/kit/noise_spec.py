"""Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256 written from the Noise specification (revision 34), for one purpose: a
second opinion on meshnode.noise. Sections are named where they are followed. Not for production: no checks at all.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NAME = b"Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256"

PATTERN = (("psk", "e"), ("e", "ee", "s", "es"), ("s", "se", "psk"))
"""Section 7.5's XX with section 9.4's modifiers psk0 (before the first token) and psk3 (end of the third message)."""


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> list[bytes]:
    """Section 4.3."""
    temp_key = hmac.digest(chaining_key, material, "sha256")
    found: list[bytes] = []
    previous = b""
    for number in range(1, outputs + 1):
        previous = hmac.digest(temp_key, previous + bytes([number]), "sha256")
        found.append(previous)
    return found


class CipherState:
    """Section 5.1."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key
        self.n = 0

    def _nonce(self) -> bytes:
        nonce = bytes(4) + self.n.to_bytes(8, "little")
        self.n += 1
        return nonce

    def encrypt(self, ad: bytes, plaintext: bytes) -> bytes:
        return plaintext if self.key is None else ChaCha20Poly1305(self.key).encrypt(self._nonce(), plaintext, ad)

    def decrypt(self, ad: bytes, ciphertext: bytes) -> bytes:
        return ciphertext if self.key is None else ChaCha20Poly1305(self.key).decrypt(self._nonce(), ciphertext, ad)


class SymmetricState:
    """Section 5.2."""

    def __init__(self) -> None:
        self.h = NAME.ljust(32, b"\0") if len(NAME) <= 32 else hashlib.sha256(NAME).digest()
        self.ck = self.h
        self.cipher = CipherState()

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.ck, key = hkdf(self.ck, material, 2)
        self.cipher = CipherState(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self.ck, hashed, key = hkdf(self.ck, material, 3)
        self.mix_hash(hashed)
        self.cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self.cipher.encrypt(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self.cipher.decrypt(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = hkdf(self.ck, b"", 2)
        return CipherState(first), CipherState(second)


@dataclass
class Party:
    """Section 5.3's HandshakeState for our one pattern; after the third message `sending` and `receiving` exist."""

    initiator: bool
    prologue: bytes
    psks: list[bytes]
    s: X25519PrivateKey
    e: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    rs: bytes = b""
    re: bytes = b""
    sending: CipherState | None = None
    receiving: CipherState | None = None

    def __post_init__(self) -> None:
        self.state = SymmetricState()
        self.state.mix_hash(self.prologue)
        self.messages = list(PATTERN)
        self.psks = list(self.psks)

    def write(self, payload: bytes) -> bytes:
        message = b""
        for token in self.messages.pop(0):
            if token == "e":
                message += self._mix_ephemeral(public(self.e))
            elif token == "s":
                message += self.state.encrypt_and_hash(public(self.s))
            else:
                self._mix(token)
        message += self.state.encrypt_and_hash(payload)
        self._maybe_split()
        return message

    def read(self, message: bytes) -> bytes:
        for token in self.messages.pop(0):
            if token == "e":
                self.re, message = message[:32], message[32:]
                self._mix_ephemeral(self.re)
            elif token == "s":
                self.rs, message = self.state.decrypt_and_hash(message[:48]), message[48:]
            else:
                self._mix(token)
        payload = self.state.decrypt_and_hash(message)
        self._maybe_split()
        return payload

    def _mix_ephemeral(self, key: bytes) -> bytes:
        self.state.mix_hash(key)
        self.state.mix_key(key)  # section 9.2: in PSK handshakes "e" is mixed into the key as well
        return key

    def _mix(self, token: str) -> None:
        if token == "psk":
            self.state.mix_key_and_hash(self.psks.pop(0))
        elif token == "ee":
            self.state.mix_key(dh(self.e, self.re))
        else:
            # "es": the initiator's ephemeral with the responder's static; "se": the reverse.
            mine_is_ephemeral = (token == "es") == self.initiator
            self.state.mix_key(dh(self.e, self.rs) if mine_is_ephemeral else dh(self.s, self.re))

    def _maybe_split(self) -> None:
        if not self.messages:
            first, second = self.state.split()
            self.sending, self.receiving = (first, second) if self.initiator else (second, first)


def public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def dh(private: X25519PrivateKey, other: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(other))
