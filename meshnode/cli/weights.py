"""`weights sign` and `verify`: a manifest beside the files, made and checked without a node.

Not for what a manifest is (trust.manifest) nor for looking after files while a node runs (engine.weights).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from meshnode.cli import place, say
from meshnode.config import load
from meshnode.engine.weights import files_of, make_manifest, manifest_of
from meshnode.errors import EvidenceRefused
from meshnode.keep.evidence import load_key
from meshnode.keep.home import Home
from meshnode.model.ids import NodeId
from meshnode.trust import manifest as manifests
from meshnode.trust.dsse import MAX_ENVELOPE_BYTES
from meshnode.trust.keys import parse_keys


def sign(home: place.Place, path: Path, model: str, key_file: Path | None, as_json: bool) -> None:
    """Write the manifest. Raises OSError, SecretFileError, DecodeError."""
    key = load_key(key_file) if key_file is not None else Home(home.path).node_key()
    made = make_manifest(path, model, int(time.time()), _progress)
    target = manifest_of(path)
    target.write_bytes(manifests.sign(made, key.public, key.sign_envelope))
    signer = NodeId(key.public).text
    if as_json:
        return say.write_json({"manifest": str(target), "digest": made.digest.hex(), "signer": signer})
    print(f"{target}: {len(made.files)} files, sha256 {made.digest.hex()}")
    print(f'nodes that have this in their config believe it: [trust] signers = ["{signer}"]')
    return None


def verify(home: place.Place, path: Path, signers: Sequence[str], as_json: bool) -> None:
    """Check it. Raises EvidenceRefused, DecodeError, ConfigError, OSError."""
    target = manifest_of(path)
    if not target.is_file():
        raise EvidenceRefused(f"there is no manifest at {target}: make one with `meshnode weights sign {path}`")
    with target.open("rb") as file:
        envelope = file.read(MAX_ENVELOPE_BYTES + 1)
    signed = manifests.verify(envelope, _believed(home, signers))
    if files_of(path, _progress) != signed.manifest.files:
        raise EvidenceRefused(f"the files at {path} are others than those that were signed")
    signer, said = NodeId(signed.signer).text, signed.manifest
    if as_json:
        return say.write_json({"model": said.model, "digest": said.digest.hex(), "signer": signer})
    print(say.clean(f"{path} is {said.model!r} as {signer} signed it, sha256 {said.digest.hex()}"))
    return None


def _believed(home: place.Place, signers: Sequence[str]) -> frozenset[bytes]:
    """Those of the configuration, those that were named, and this node, if there is one."""
    config = load(home.path / "config.toml", os.environ)
    own = {Home(home.path).node_key().public} if (home.path / "node.key").exists() else set()
    return parse_keys([*config.trust.signers, *signers], "trust.signers") | own


def _progress(name: str, done: int, total: int) -> None:
    print(f"hashing {name}: {done >> 20} of {total >> 20} MB", file=sys.stderr)
