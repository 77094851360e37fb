"""The SQLite file: for its owner alone, of one version, written in batches by one thread."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import SecretFileError
from meshnode.keep import store
from meshnode.keep.store import Writer, connect, reading

SCHEMA = "CREATE TABLE words (word TEXT)"


def words(path: Path) -> list[str]:
    database = reading(path, 1)
    assert database is not None
    try:
        return [word for (word,) in database.execute("SELECT word FROM words ORDER BY rowid")]
    finally:
        database.close()


def adding(word: str) -> store.Work:
    return lambda database: database.execute("INSERT INTO words VALUES (?)", (word,)) and None


def test_the_file_and_its_log_are_for_this_user_alone(tmp_path: Path) -> None:
    database = connect(tmp_path / "x.db", SCHEMA, 1)
    database.execute("INSERT INTO words VALUES ('a')")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()
    assert set(modes) == {"x.db", "x.db-wal", "x.db-shm"} and set(modes.values()) == {0o600}


def test_a_file_of_an_older_version_is_brought_up_step_by_step_once(tmp_path: Path) -> None:
    first = connect(tmp_path / "x.db", "CREATE TABLE t (a)", 1)
    first.execute("INSERT INTO t VALUES (7)")
    first.close()
    upgrades = {1: "ALTER TABLE t ADD COLUMN b DEFAULT 8", 2: "ALTER TABLE t ADD COLUMN c DEFAULT 9"}
    for _ in range(2):
        again = connect(tmp_path / "x.db", "CREATE TABLE t (a, b, c)", 3, upgrades)
        assert again.execute("SELECT * FROM t").fetchall() == [(7, 8, 9)]
        again.close()


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    connect(tmp_path / "x.db", SCHEMA, 2).close()
    with pytest.raises(SecretFileError, match="version 2"):
        connect(tmp_path / "x.db", SCHEMA, 1)
    with pytest.raises(SecretFileError, match="version 2"):
        reading(tmp_path / "x.db", 1)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 50)
    with pytest.raises(SecretFileError, match="damaged"):
        connect(tmp_path / "x.db", SCHEMA, 1)
    assert (tmp_path / "x.db").read_bytes().startswith(b"not a database")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SecretFileError):
        connect(tmp_path / "x.db", SCHEMA, 1)
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_made_by_reading(tmp_path: Path) -> None:
    assert reading(tmp_path / "x.db", 1) is None
    assert not list(tmp_path.iterdir())


async def test_work_is_done_in_order_and_what_waits_at_the_end_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "x.db"
    writer = Writer(lambda: connect(path, SCHEMA, 1), lambda _: False)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put(adding("a"))
        writer.put(adding("b"))
        await writer.settled()
        assert words(path) == ["a", "b"]
        writer.put(adding("c"))
        nursery.cancel_scope.cancel()
    assert words(path) == ["a", "b", "c"]


async def test_what_fails_is_dropped_whole_and_the_next_is_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "x.db"
    writer = Writer(lambda: connect(path, SCHEMA, 1), lambda _: False)

    def failing(database: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk is full")

    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put(adding("a"))
        writer.put(failing)
        while not writer.dropped:  # noqa: ASYNC110 - a failed batch has no event
            await trio.sleep(1)
        assert words(path) == [] and writer.dropped == 2
        writer.put(adding("b"))
        await writer.settled()
        assert words(path) == ["b"]
        nursery.cancel_scope.cancel()


async def test_what_waits_is_bounded(tmp_path: Path) -> None:
    writer = Writer(lambda: connect(tmp_path / "x.db", SCHEMA, 1), lambda _: False)
    for _ in range(store.PENDING + 3):
        writer.put(adding("a"))
    assert writer.dropped == 3


async def test_rest_is_called_again_while_it_has_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    calls: list[float] = []

    def rest(database: sqlite3.Connection) -> bool:
        calls.append(0.0)
        return len(calls) < 5

    writer = Writer(lambda: connect(tmp_path / "x.db", SCHEMA, 1), rest)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.settled()
        assert len(calls) == 5
        nursery.cancel_scope.cancel()
