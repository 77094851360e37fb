"""Weight manifests: believed of trusted signers alone, and of paths that stay in their folder."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.trust import Envelope, Manifest, WeightFile
from meshnode.trust.dsse import MAX_ENVELOPE_BYTES
from meshnode.trust.manifest import MAX_FILES, PAYLOAD_TYPE, sign, verify
from tests.trust.people import NOW, OPERATOR, SERVER, STRANGER, files, manifest, sha


def envelope(of: Manifest | None = None) -> bytes:
    return sign(of or manifest(), OPERATOR.public, OPERATOR.sign_envelope)


def test_a_manifest_holds_by_a_trusted_signer() -> None:
    found = verify(envelope(), {STRANGER.public, OPERATOR.public})
    assert (found.manifest, found.signer) == (manifest(), OPERATOR.public)


def test_a_node_signs_as_itself() -> None:
    data = sign(manifest(), SERVER.public, SERVER.sign_envelope)
    assert verify(data, {SERVER.public}).signer == SERVER.public


def test_a_manifest_by_nobody_trusted_is_refused() -> None:
    with pytest.raises(EvidenceRefused, match=rf"trust\.signers .*, which names {OPERATOR.id.text}$"):
        verify(envelope(), {STRANGER.public})


def test_a_forged_manifest_is_refused() -> None:
    other = Envelope.unpack(envelope(manifest("other.gguf")))
    forged = msgspec.structs.replace(other, signatures=Envelope.unpack(envelope()).signatures)
    with pytest.raises(EvidenceRefused):
        verify(forged.pack(), {OPERATOR.public})


def test_the_digest_of_one_file_is_its_own_and_of_several_their_sums() -> None:
    assert manifest("a").digest == sha(b"a")
    lines = f"{sha(b'a').hex()}  a\n{sha(b'd/b').hex()}  d/b\n".encode()
    assert manifest("a", "d/b").digest == hashlib.sha256(lines).digest()
    renamed = Manifest((files("a")[0], WeightFile("d/c", 3, sha(b"d/b").hex())))
    assert renamed.digest != manifest("a", "d/b").digest


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "a//b", "./a", "a\\b", "a\n", "a/"])
def test_a_path_out_of_the_folder_is_refused(path: str) -> None:
    broken = Manifest((WeightFile(path, 1, "0" * 64),))
    with pytest.raises(DecodeError):
        broken.pack()
    payload = msgspec.json.encode(broken)
    data = Envelope.sign(PAYLOAD_TYPE, payload, OPERATOR.public, OPERATOR.sign_envelope).pack()
    with pytest.raises(DecodeError):
        verify(data, {OPERATOR.public})


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_files_out_of_order_or_twice_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DecodeError):
        Manifest(files(*names)).pack()


def test_the_largest_manifest_is_read_and_a_larger_one_is_not() -> None:
    names = [f"{number:04}-" + "n" * 45 for number in range(MAX_FILES)]
    data = envelope(Manifest(files(*names), "m" * 128, NOW))
    assert len(data) <= MAX_ENVELOPE_BYTES
    assert len(verify(data, {OPERATOR.public}).manifest.files) == MAX_FILES
    with pytest.raises(DecodeError):
        Manifest.unpack(msgspec.json.encode(Manifest(files(*names, "x" * 60))))
