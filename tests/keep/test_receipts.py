"""The book: receipts that hold, those that do not and why, for a week and not too many."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.config.trust import TrustSection
from meshnode.keep.receipts import AT_ONCE, FILE, GOOD, MISSING, SCHEMA, UNREADABLE, Receipts, newest, of_request
from meshnode.keep.store import connect
from meshnode.trust import Expected
from tests.trust.people import ORIGIN, SERVER, STRANGER, receipt, sha, signed

EXPECTED = Expected("job-1.abc", ORIGIN.id, SERVER.id, sha(b"request"), sha(b"answer"))


class Running:
    def __init__(self, folder: Path, **section: float) -> None:
        self.folder = folder
        self.book = Receipts(folder, TrustSection(**section), ORIGIN.id, ORIGIN.sign)  # type: ignore[arg-type]

    async def until_written(self, *entries: tuple[str, Expected]) -> list[str | None]:
        """The verdicts of what came, the oldest first."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.book.run)
            for trailer, expected in entries:
                self.book.came(trailer, expected)
            await self.book.writer.settled()
            nursery.cancel_scope.cancel()
        return [row.verdict for row in reversed(newest(self.folder, 1000))]


async def test_a_receipt_that_holds_is_good_and_comes_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    assert await Running(tmp_path).until_written((signed().trailer, EXPECTED)) == [GOOD]
    [row] = of_request(tmp_path, "job-1")
    assert row.signed == signed() and row.server == SERVER.id
    assert of_request(tmp_path, "job-1.abc") == of_request(tmp_path, str(row.id)) == [row]
    assert of_request(tmp_path, "job") == []


async def test_which_api_key_asked_is_this_nodes_own_note(tmp_path: Path, autojump_clock: MockClock) -> None:
    book = Running(tmp_path).book
    async with trio.open_nursery() as nursery:
        await nursery.start(book.run)
        book.came(signed().trailer, EXPECTED, "0a1b2c3d")
        book.own(receipt(server=ORIGIN.public), "0a1b2c3e")
        book.came(signed().trailer, EXPECTED)
        await book.writer.settled()
        nursery.cancel_scope.cancel()
    rows = newest(tmp_path, 10)
    assert [row.key for row in rows] == ["", "0a1b2c3e", "0a1b2c3d"]
    assert not any(b"0a1b2c3" in row.body for row in rows), "what is signed does not hold it"


async def test_a_book_of_the_first_version_is_written_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    old = SCHEMA.replace(",\n    key TEXT NOT NULL DEFAULT ''", "")
    assert old != SCHEMA
    connect(tmp_path / FILE, old, 1).close()
    assert await Running(tmp_path).until_written((signed().trailer, EXPECTED)) == [GOOD]


@pytest.mark.parametrize(
    ("trailer", "verdict"),
    [
        ("", MISSING),
        ("nonsense", UNREADABLE),
        (signed(by=STRANGER).trailer, f"the receipt is not signed by {SERVER.id.short}, which it names"),
        (signed(answer=sha(b"other")).trailer, "it is for another answer"),
        (signed(by=STRANGER, server=STRANGER.public).trailer, "it is for another server"),
        (signed(job="job-0").trailer, "it is for another job"),
    ],
)
async def test_what_does_not_hold_is_kept_with_the_reason(
    tmp_path: Path, autojump_clock: MockClock, trailer: str, verdict: str
) -> None:
    running = Running(tmp_path)
    assert await running.until_written((trailer, EXPECTED)) == [verdict]
    status = running.book.status()
    assert (status["good"], status["mismatched"], status["missing"]) == (0, verdict != MISSING, verdict == MISSING)


async def test_who_is_named_in_bad_receipts_is_counted_as_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    running = Running(tmp_path)
    await running.until_written(*((signed(by=STRANGER, server=sha(b"%d" % n)).trailer, EXPECTED) for n in range(9)))
    assert running.book.status()["mismatched"] == 9
    assert len(running.book.counts) == 1


async def test_this_nodes_own_are_signed_by_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    running = Running(tmp_path)
    running.book.own(receipt(server=ORIGIN.public))
    assert await running.until_written() == [GOOD]
    [row] = newest(tmp_path, 1)
    assert row.signed is not None and row.signed.check() == receipt(server=ORIGIN.public)


async def test_many_are_checked_all_the_same(tmp_path: Path, autojump_clock: MockClock) -> None:
    many = [(signed().trailer, EXPECTED)] * (2 * AT_ONCE + 5)
    assert await Running(tmp_path).until_written(*many) == [GOOD] * len(many)


async def test_old_ones_go(tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    running = Running(tmp_path)
    await running.until_written((signed().trailer, EXPECTED))
    now[0] += 7 * 86_400 - 1
    assert len(await Running(tmp_path).until_written()) == 1
    now[0] += 2
    assert await Running(tmp_path).until_written() == []


async def test_the_oldest_go_where_there_are_too_many(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Running(tmp_path).until_written(*[(signed().trailer, EXPECTED)] * 5)
    await Running(tmp_path, receipts_kept=3).until_written()
    assert [row.id for row in newest(tmp_path, 10)] == [5, 4, 3]
