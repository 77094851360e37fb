"""Files that only their owner may read: written whole or not at all, refused when others could have read them.

Synchronous: each write waits for the disk. Not for what is inside (home.py). Modes as in protocol.md §1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from meshnode.errors import SecretFileError

MAX_BYTES = 1 << 20
"""No secret file of ours comes near; a larger one is not ours."""

_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe put in the file's place must not stop the start.
_OPEN_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS = 0o077

_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "this user's quota is used up, make room",
    errno.EFBIG: "the size of files is limited here (ulimit -f), raise the limit",
    errno.EROFS: "use a home on a disk that can be written to (MESHNODE_HOME)",
    errno.EACCES: "its directory must be this user's, mode 700",
    errno.ENOENT: "its directory is missing, make it",
}


def private_directory(path: Path) -> None:
    """Make `path`, and what is above it, or check that it is a directory for this user alone (0700).

    Raises SecretFileError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise SecretFileError(f"cannot make the directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise SecretFileError(f"{path} is not a directory (nor may it be a link to one): move it away")
    _check_owner(path, found, "700")


def read_secret(path: Path, *, limit: int = MAX_BYTES) -> bytes | None:
    """The whole file, or None where there is none.

    Raises SecretFileError for a link, another kind of file, another owner, a mode that lets others in, or more than
    `limit` bytes; the message says what to do.
    """
    try:
        descriptor = os.open(path, _OPEN_OLD)
    except FileNotFoundError:
        return None
    except OSError as error:
        linked = path.is_symlink()
        reason = "it is a symbolic link: put the file itself there" if linked else str(error.strerror)
        raise SecretFileError(f"cannot read {path}: {reason}") from error
    try:
        # What was opened is judged, not what the name means a moment later.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SecretFileError(f"{path} is not a regular file: move it away")
        _check_owner(path, found, "600")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise SecretFileError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise SecretFileError(f"{path} has more than {limit} bytes: it is not a file of this node")
    return data


def write_secret(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, mode 0600, durable on return. After any failure the old file is whole.

    Raises SecretFileError.
    """
    try:
        fresh = _write_beside(path, data)
        try:
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    _sync_directory_of(path)


def create_secret(path: Path, data: bytes) -> None:
    """Like write_secret, but never over a file that is there: raises SecretFileError instead."""
    try:
        fresh = _write_beside(path, data)
        try:
            # A link, unlike a rename, fails when the name is taken.
            os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except FileExistsError as error:
        raise SecretFileError(f"{path} is there already; it is not overwritten") from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    _sync_directory_of(path)


def remove_secret(path: Path) -> None:
    """Remove the file, and what a crash may have left of writing it; durable on return. One that is missing is well.

    Raises SecretFileError.
    """
    try:
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)
    except OSError as error:
        raise SecretFileError(f"cannot remove {path}: {error.strerror}") from error
    _sync_directory_of(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _write_beside(path: Path, data: bytes) -> Path:
    """A complete, synced file next to `path`. Its name is fixed, so that a crash leaves at most one behind; the home's
    lock keeps two writers apart."""
    fresh = _beside(path)
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, _OPEN_NEW, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            # The umask can only have taken bits away; 0600 exactly, whatever it is.
            os.fchmod(descriptor, 0o600)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(descriptor)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _cannot_write(path: Path, error: OSError) -> SecretFileError:
    remedy = _REMEDIES.get(error.errno or 0, "see to its directory")
    return SecretFileError(f"cannot write {path}: {error.strerror}: {remedy}; what was there before is unchanged")


def _sync_directory_of(path: Path) -> None:
    """A new name, or one that is gone, is durable once its directory is. Raises SecretFileError."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SecretFileError(f"what changed of {path} may not outlive a power cut: {error.strerror}") from error


def _check_owner(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid != os.geteuid():
        raise SecretFileError(f"{path} belongs to another user (uid {found.st_uid}): chown it, or use another home")
    if found.st_mode & _OTHERS:
        raise SecretFileError(f"{path} is open to others (mode {found.st_mode & 0o777:03o}): chmod {mode} {path}")
