"""One SQLite file and its one writer: work is handed in without waiting, and done in batches in a thread.

Write-ahead logging, so that the command line reads while the node writes. Not for what the tables mean (receipts.py).
A file of another version, which no upgrade leads from, is left alone and not used.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import trio

from meshnode.errors import SecretFileError
from meshnode.observe import log

logger = log.get("keep")

Work = Callable[[sqlite3.Connection], None]

PENDING = 4096
"""Work that waits; more is dropped and counted: a disk that does not keep up must not fill memory."""

NOTHING: Mapping[int, str] = MappingProxyType({})

GATHER_S = 0.25
"""One transaction takes what comes in so long."""

IDLE_S = 900.0
"""Without any work `rest` is called all the same: what is old is to go from an idle node too."""

AGAIN_S = 30.0
"""After a disk that took nothing."""


def connect(path: Path, schema: str, version: int, upgrades: Mapping[int, str] = NOTHING) -> sqlite3.Connection:
    """Open the file, 0600, made when it is missing. `upgrades` make the next version of one. Raises
    SecretFileError."""
    try:
        # SQLite gives its log and index files the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(path, timeout=5.0, check_same_thread=False, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise SecretFileError(f"cannot open {path}: {error}") from error
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # A power cut may cost the last moments, and leaves the file whole.
        database.execute("PRAGMA synchronous = NORMAL")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            database.executescript(f"BEGIN; {schema}; PRAGMA user_version = {version:d}; COMMIT;")
            found = version
        while found in upgrades:
            database.executescript(f"BEGIN; {upgrades[found]}; PRAGMA user_version = {found + 1:d}; COMMIT;")
            found += 1
        if found != version:
            raise SecretFileError(f"{path} is of version {found}, this meshnode writes {version}: move it away")
    except sqlite3.Error as error:
        database.close()
        raise SecretFileError(f"{path} is damaged or no database ({error}): move it away") from error
    except SecretFileError:
        database.close()
        raise
    return database


def reading(path: Path, version: int) -> sqlite3.Connection | None:
    """The file for reading only, beside a node that writes; None where there is none. Raises SecretFileError."""
    if not path.exists():
        return None
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        found = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise SecretFileError(f"cannot read {path}: {error}") from error
    if found != version:
        database.close()
        raise SecretFileError(f"{path} is of version {found}, this meshnode reads {version}")
    return database


class Writer:
    """`put` work at any time; `run` does it. `rest(connection)` is called after each batch, in the same transaction,
    and says whether it has more to do: then it is called again soon, though nothing new came."""

    def __init__(self, open_file: Callable[[], sqlite3.Connection], rest: Callable[[sqlite3.Connection], bool]) -> None:
        self._open_file = open_file
        self._rest = rest
        self._database: sqlite3.Connection | None = None
        self._pending: list[Work] = []
        self._some = trio.Event()
        self._settled = trio.Event()
        self.dropped = 0

    def put(self, work: Work) -> None:
        """Have it done soon, in the order of coming."""
        if len(self._pending) >= PENDING:
            self.dropped += 1
            return
        self._pending.append(work)
        self._some.set()

    async def settled(self) -> None:
        """Wait for the end of the next batch that leaves nothing to do."""
        await self._settled.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; what was put before is written then."""
        task_status.started()
        try:
            # What an earlier run left undone.
            self._some.set()
            while True:
                with trio.move_on_after(IDLE_S):
                    await self._some.wait()
                await trio.sleep(GATHER_S)
                if not await self._write():
                    await trio.sleep(AGAIN_S)
                elif not self._some.is_set():
                    settled, self._settled = self._settled, trio.Event()
                    settled.set()
        finally:
            with trio.CancelScope(shield=True):
                await self._write()
                if self._database is not None:
                    await trio.to_thread.run_sync(self._database.close)

    async def _write(self) -> bool:
        """One batch. Whether the disk took it."""
        self._some = trio.Event()
        work, self._pending = self._pending, []
        try:
            more = await trio.to_thread.run_sync(self._in_thread, work)
        except (sqlite3.Error, SecretFileError) as error:
            self.dropped += len(work)
            logger.warning("what is to be kept cannot be written", entries=len(work), reason=str(error))
            return False
        if more or self._pending:
            self._some.set()
        return True

    def _in_thread(self, work: list[Work]) -> bool:
        if self._database is None:
            self._database = self._open_file()
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            for one in work:
                one(database)
            more = self._rest(database)
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        return more
