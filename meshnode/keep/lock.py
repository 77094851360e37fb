"""One node, one home: a lock that dies with its process. Not for threads of one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from meshnode.errors import SecretFileError, StartError


class HomeLock:
    """Holds `path` locked (flock) with this process's pid in it, until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        """Raises StartError when another process holds it, with its pid; SecretFileError when it cannot be locked."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SecretFileError(f"cannot open the lock {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise StartError(
                f"{path.parent} is in use by the node of process {holder}: stop that process, "
                "or give this one another home with MESHNODE_HOME"
            ) from error
        except OSError as error:
            self.release()
            raise SecretFileError(f"cannot lock {path}: {error.strerror}") from error

    def release(self) -> None:
        """Let another node have the home. The file stays: removing it would let two nodes lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
