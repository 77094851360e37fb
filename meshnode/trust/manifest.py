"""Weight manifests: which files a model is made of, by size and SHA-256, signed by somebody who stands for that.

A manifest says what the weights are, not that a node runs them: a node that offers their digest says that, and only
attestation could show it. Not for hashing files (engine.weights). Counterpart: dsse.py carries it. protocol.md §7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.trust.dsse import Envelope
from meshnode.trust.keys import SignRaw, WallTime

PAYLOAD_TYPE = "application/vnd.meshnode.weights+json"

MAX_FILES = 256
"""Shards, tokenizer and configuration of the largest models published have 200."""


class WeightFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file, below the model's folder; `/` parts its path on every system."""

    path: Annotated[str, Meta(min_length=1, max_length=255)]
    size: Annotated[int, Meta(ge=0, le=2**50)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was signed. `model` is for people; files are sorted by path, each once."""

    files: Annotated[tuple[WeightFile, ...], Meta(min_length=1, max_length=MAX_FILES)]
    model: Annotated[str, Meta(max_length=128)] = ""
    made_at: WallTime = 0
    version: Annotated[int, Meta(ge=1, le=1)] = 1

    @property
    def digest(self) -> bytes:
        """What adverts carry: of one file its own SHA-256; of several that of their `sha256sum` lines, by path."""
        if len(self.files) == 1:
            return bytes.fromhex(self.files[0].sha256)
        return hashlib.sha256("".join(f"{one.sha256}  {one.path}\n" for one in self.files).encode()).digest()

    def pack(self) -> bytes:
        """The payload to sign. Raises DecodeError for a manifest that nobody would read."""
        _check_paths(self)
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read a payload whose signature was right. Raises DecodeError."""
        try:
            found = msgspec.json.decode(payload, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DecodeError(f"not a weight manifest: {error}") from error
        _check_paths(found)
        return found


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest that holds, and whose word that is."""

    manifest: Manifest
    signer: bytes


def sign(manifest: Manifest, key: bytes, sign_raw: SignRaw) -> bytes:
    """The envelope of a manifest, signed with the key whose public half is `key`. Raises DecodeError."""
    return Envelope.sign(PAYLOAD_TYPE, manifest.pack(), key, sign_raw).pack()


def verify(data: bytes, signers: Collection[bytes]) -> Signed:
    """Judge an envelope. Raises EvidenceRefused when none of `signers` signed it, DecodeError for what is none."""
    envelope = Envelope.unpack(data)
    opened = envelope.open(PAYLOAD_TYPE, signers)
    if opened is None:
        named = ", ".join(one.keyid if one.keyid.isprintable() else "?" for one in envelope.signatures if one.keyid)
        by = f", which names {named}" if named else ""
        raise EvidenceRefused(f"nobody in trust.signers has signed this weight manifest{by}")
    payload, signer = opened
    return Signed(Manifest.unpack(payload), signer)


def _check_paths(manifest: Manifest) -> None:
    paths = [one.path for one in manifest.files]
    if paths != sorted(set(paths)):
        raise DecodeError("a weight manifest with files out of order, or twice")
    for path in paths:
        parts = path.split("/")
        if not path.isprintable() or "\\" in path or not all(part not in ("", ".", "..") for part in parts):
            raise DecodeError("a weight manifest with a path that leads out of its folder")
