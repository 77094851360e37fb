"""Files of weights: proven by a manifest, hashed again when they change, and never believed for having a name."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.engine import weights as room
from meshnode.engine.weights import Weights, make_manifest, manifest_of
from meshnode.errors import ConfigError, DecodeError
from meshnode.identity import NodeKey
from meshnode.model.advert import ModelOffer
from meshnode.trust import manifest as manifests

SIGNER = NodeKey.from_seed(b"s" * 32)
LOOK_S = 30.0

IN_A_THREAD = trio.to_thread.run_sync


def signed(path: Path, key: NodeKey = SIGNER) -> bytes:
    """Sign a file or a folder as it is; the digest."""
    made = make_manifest(path, "m", 1, lambda *_: None)
    manifest_of(path).write_bytes(manifests.sign(made, key.public, key.sign_envelope))
    return made.digest


def change(file: Path, data: bytes, at_ns: int) -> None:
    """Other bytes, at another time, however coarse the disk's clock is."""
    file.write_bytes(data)
    os.utime(file, ns=(at_ns, at_ns))


class Looking:
    """Weights that look while the block runs; `looked()` waits for the next time they have."""

    def __init__(self, files: Mapping[str, Path], nursery: trio.Nursery) -> None:
        self.changes = 0
        self.weights = Weights((), LOOK_S, {SIGNER.public}, lambda: files, self._changed)
        nursery.start_soon(self.weights.run)

    def _changed(self) -> None:
        self.changes += 1

    async def looked(self) -> None:
        await trio.sleep(LOOK_S)
        await trio.testing.wait_all_tasks_blocked(0.05)

    @property
    def digest(self) -> bytes:
        return self.weights.marked([ModelOffer("m", digest=b"claimed")])[0].digest


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not wait for threads."""

    async def run(work: object, *args: object, abandon_on_cancel: bool) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)  # type: ignore[operator]

    monkeypatch.setattr(trio.to_thread, "run_sync", run)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    return path


async def test_signed_weights_give_the_offer_its_digest(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    digest = signed(file)
    looking = Looking({"m": file}, nursery)
    await looking.looked()
    assert (looking.digest, looking.changes) == (digest, 1)
    assert looking.weights.digests() == {digest}
    envelope = looking.weights.envelope(digest)
    assert envelope is not None and manifests.verify(envelope, {SIGNER.public}).manifest.digest == digest
    assert looking.weights.envelope(b"x" * 32) is None


async def test_one_changed_byte_takes_it_away_and_the_right_ones_bring_it_back(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    digest = signed(file)
    looking = Looking({"m": file}, nursery)
    await looking.looked()
    change(file, b"Weights", 5)
    await looking.looked()
    assert (looking.digest, looking.weights.digests()) == (b"claimed", frozenset())
    change(file, b"weights", 6)
    await looking.looked()
    assert (looking.digest, looking.changes) == (digest, 3)


@pytest.mark.parametrize("manifest", [b"", b"{}", b"x" * 100, None])
async def test_without_a_manifest_that_holds_nothing_is_proven(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock, manifest: bytes | None
) -> None:
    if manifest is not None:
        manifest_of(file).write_bytes(manifest)
    looking = Looking({"m": file, "gone": file.with_name("nowhere.gguf")}, nursery)
    await looking.looked()
    assert (looking.digest, looking.changes) == (b"claimed", 0)


async def test_a_manifest_of_somebody_else_proves_nothing(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    signed(file, NodeKey.from_seed(b"o" * 32))
    looking = Looking({"m": file}, nursery)
    await looking.looked()
    assert looking.digest == b"claimed"


async def test_files_are_hashed_again_only_when_they_have_changed(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed(file)
    hashed = []
    real = room.files_of
    monkeypatch.setattr(room, "files_of", lambda path, say: hashed.append(path) or real(path, say))
    looking = Looking({"m": file}, nursery)
    for _ in range(4):
        await looking.looked()
    assert len(hashed) == 1
    os.utime(file, ns=(7, 7))
    await looking.looked()
    assert len(hashed) == 2


async def test_a_file_that_was_still_being_copied_is_looked_at_again(
    file: Path, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = signed(file)
    change(file, b"weig", 1)
    real = room.files_of

    def copied_meanwhile(path: Path, say: room.Progress) -> object:
        found = real(path, say)
        change(file, b"weights", 2)
        return found

    monkeypatch.setattr(room, "files_of", copied_meanwhile)
    looking = Looking({"m": file}, nursery)
    await looking.looked()
    await looking.looked()
    assert looking.digest == digest


async def test_leaving_does_not_wait_for_hashing(
    file: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", IN_A_THREAD)
    signed(file)
    began, go_on, ended = trio.Event(), threading.Event(), threading.Event()
    real = room.files_of

    def slow(path: Path, say: room.Progress) -> object:
        trio.from_thread.run_sync(began.set)
        go_on.wait(20)
        ended.set()
        return real(path, say)

    monkeypatch.setattr(room, "files_of", slow)
    async with trio.open_nursery() as inner:
        Looking({"m": file}, inner)
        await began.wait()
        inner.cancel_scope.cancel()
    assert not ended.is_set()
    go_on.set()


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.safetensors", "a.json", "sub/c.bin", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    first = signed(tmp_path)
    made = make_manifest(tmp_path, "m", 1, lambda *_: None)
    assert [one.path for one in made.files] == ["a.json", "b.safetensors", "sub/c.bin"]
    assert made.digest == first
    (tmp_path / "sub" / "d.bin").write_bytes(b"")
    assert make_manifest(tmp_path, "m", 1, lambda *_: None).digest != first


def test_manifests_of_single_files_are_no_weights_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"a")
    first = signed(tmp_path)
    signed(tmp_path / "a.gguf")
    assert make_manifest(tmp_path, "m", 1, lambda *_: None).digest == first


def test_an_empty_folder_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="0 files"):
        make_manifest(tmp_path, "m", 1, lambda *_: None)


def test_entries_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="MODEL=PATH"):
        Weights(("m",), LOOK_S, (), dict, lambda: None)
