"""Signed weights of this node: files hashed at load, and again when size, time or inode change, against their manifest.

Only files with a manifest are hashed: forty gigabytes take a minute of disk. What verifies gives its offer the digest.
Not for what a manifest means (trust.manifest). Counterpart: `meshnode weights sign`, which writes manifests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from meshnode.errors import ConfigError, DecodeError, EvidenceRefused
from meshnode.model.advert import ModelOffer
from meshnode.observe import log
from meshnode.trust import manifest as manifests
from meshnode.trust.dsse import MAX_ENVELOPE_BYTES
from meshnode.trust.manifest import MAX_FILES, Manifest, WeightFile

logger = log.get("engine")

FOLDER_MANIFEST = "meshnode-weights.json"
FILE_SUFFIX = ".meshnode-weights.json"

PIECE_BYTES = 4 << 20
TELL_BYTES = 4 << 30
"""Between two lines about a long file: a few seconds of a good disk."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes hashed and the bytes in all."""

Stats = tuple[tuple[str, int, int, int], ...]
"""Of each file: path, size, time of change in nanoseconds, inode."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Weights that are what their manifest says. `stats` as they were when they were hashed."""

    digest: bytes
    envelope: bytes
    stats: Stats


@dataclass(frozen=True, slots=True)
class Refused:
    """Weights with a manifest that does not hold, not looked at again until something changes."""

    stats: Stats


class Weights:
    """`run` looks; `marked` gives offers their digests. `found()` are the files of models as engines say them."""

    def __init__(
        self,
        configured: Iterable[str],
        look_s: float,
        signers: Collection[bytes],
        found: Callable[[], Mapping[str, Path]],
        changed: Callable[[], None],
    ) -> None:
        """Raises ConfigError for entries of `trust.weights` that are not MODEL=PATH."""
        self._configured = _configured(configured)
        self._look_s = look_s
        self._signers = signers
        self._found = found
        self._changed = changed
        self._known: dict[str, Verified | Refused] = {}

    async def run(self) -> None:
        """Look again and again. Returns only by cancellation."""
        while True:
            before = {model: one for model, one in self._known.items() if isinstance(one, Verified)}
            places = {**self._found(), **self._configured}
            now: dict[str, Verified | Refused] = {}
            for model, path in places.items():
                # Abandoned when the node leaves: nobody waits for a minute of hashing to end.
                known = self._known.get(model)
                looked = await trio.to_thread.run_sync(self._look, model, path, known, abandon_on_cancel=True)
                if looked is not None:
                    now[model] = looked
            self._known = now
            if before != {model: one for model, one in now.items() if isinstance(one, Verified)}:
                self._changed()
            await trio.sleep(self._look_s)

    def marked(self, offers: Iterable[ModelOffer]) -> tuple[ModelOffer, ...]:
        """The offers, those of verified weights with their digests."""
        return tuple(
            msgspec.structs.replace(offer, digest=known.digest)
            if isinstance(known := self._known.get(offer.name), Verified)
            else offer
            for offer in offers
        )

    def digests(self) -> frozenset[bytes]:
        """Those that are verified."""
        return frozenset(one.digest for one in self._known.values() if isinstance(one, Verified))

    def envelope(self, digest: bytes) -> bytes | None:
        """The manifest of a digest that is offered here, for whoever asks."""
        known = (one for one in self._known.values() if isinstance(one, Verified))
        return next((one.envelope for one in known if one.digest == digest), None)

    def _look(self, model: str, path: Path, before: Verified | Refused | None) -> Verified | Refused | None:
        """In a thread: None where there is no manifest."""
        stats: Stats | None = None
        try:
            place = manifest_of(path)
            if not place.is_file():
                return None
            stats = _stats([place, *_files(path)])
            if before is not None and before.stats == stats:
                return before
            with place.open("rb") as file:
                envelope = file.read(MAX_ENVELOPE_BYTES + 1)
            signed = manifests.verify(envelope, self._signers)
            if files_of(path, _say) != signed.manifest.files:
                raise EvidenceRefused("the files are others than those that were signed")
        except (OSError, EvidenceRefused, DecodeError) as error:
            logger.warning("weights are not what a manifest says", model=model, path=str(path), reason=str(error))
            # As they were before: files that were still being copied meanwhile are looked at again.
            return Refused(stats) if stats is not None else None
        logger.info("signed weights verified", model=model, sha256=signed.manifest.digest.hex())
        return Verified(signed.manifest.digest, envelope, stats)


def manifest_of(path: Path) -> Path:
    """Where the manifest of a file or folder of weights is."""
    return path / FOLDER_MANIFEST if path.is_dir() else path.with_name(path.name + FILE_SUFFIX)


def make_manifest(path: Path, model: str, made_at: int, progress: Progress) -> Manifest:
    """The manifest of a file or folder as it is now. Raises OSError, DecodeError for a folder of too many files."""
    return Manifest(files_of(path, progress), model, made_at)


def files_of(path: Path, progress: Progress) -> tuple[WeightFile, ...]:
    """Each file of the weights, hashed. Raises OSError, DecodeError."""
    top = path if path.is_dir() else path.parent
    return tuple(
        WeightFile(file.relative_to(top).as_posix(), *_hashed(file, progress))
        for file in sorted(_files(path), key=lambda file: file.relative_to(top).as_posix())
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in path.rglob("*")
        if file.is_file()
        and not file.name.endswith((FOLDER_MANIFEST, FILE_SUFFIX))
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not 0 < len(found) <= MAX_FILES:
        raise DecodeError(f"{path} has {len(found)} files; a manifest lists 1 to {MAX_FILES}")
    return sorted(found)


def _hashed(file: Path, progress: Progress) -> tuple[int, str]:
    found, done, told = hashlib.sha256(), 0, 0
    with file.open("rb", buffering=0) as opened:
        size = file.stat().st_size
        while piece := opened.read(PIECE_BYTES):
            found.update(piece)
            done += len(piece)
            if done - told >= TELL_BYTES:
                told = done
                progress(file.name, done, size)
    return done, found.hexdigest()


def _stats(files: list[Path]) -> Stats:
    return tuple((str(file), (s := file.stat()).st_size, s.st_mtime_ns, s.st_ino) for file in files)


def _say(name: str, done: int, total: int) -> None:
    logger.info("hashing weights", file=name, done_mb=done >> 20, of_mb=total >> 20)


def _configured(entries: Iterable[str]) -> dict[str, Path]:
    found, faults = {}, []
    for entry in entries:
        model, _, path = entry.partition("=")
        if not model or not path:
            faults.append(f"trust.weights: {entry!r} is not MODEL=PATH")
        found[model] = Path(path).expanduser()
    if faults:
        raise ConfigError(faults)
    return found
