"""Where peers were reached is on disk soon after it changed, and a full disk ends nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import SecretFileError
from meshnode.keep.home import Home
from meshnode.mesh import address_book
from meshnode.mesh.address_book import REMEMBER_S, AddressBook
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id

A, B = node_id(1), node_id(2)


@pytest.fixture(autouse=True)
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread writes, everybody else waits and the virtual clock would run away."""

    async def at_once(work: Any, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("trio.to_thread.run_sync", at_once)


class Kept:
    """A book that runs; `found` is what the overlay says, `tell` that it has changed."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.book = AddressBook(home, MESH, trio.Lock())
        self.found: dict[NodeId, tuple[str, ...]] = {}
        self.news = trio.Event()

    def tell(self) -> None:
        news, self.news = self.news, trio.Event()
        news.set()

    def on_disk(self) -> dict[NodeId, tuple[str, ...]]:
        """What the next start would know."""
        return AddressBook(self.home, MESH, trio.Lock()).known()


@asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[Kept]:
    made = Kept(Home(folder / "home", time.time))
    made.home.node_key()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.book.run, lambda: tuple(made.found.items()), lambda: made.news)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def test_what_has_changed_is_on_disk_within_a_second_or_two(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as made:
        assert made.on_disk() == {}
        made.found = {A: ("10.0.0.1:1",)}
        made.tell()
        await trio.sleep(2.0)
        assert made.on_disk() == {A: ("10.0.0.1:1",)} == made.book.known()


async def test_what_nobody_tells_of_is_seen_at_the_next_look(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as made:
        made.found = {A: ("10.0.0.1:1",)}
        await trio.sleep(REMEMBER_S + 2.0)
        assert made.on_disk() == {A: ("10.0.0.1:1",)}


async def test_having_no_link_forgets_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as made:
        made.found = {A: ("10.0.0.1:1",)}
        made.tell()
        await trio.sleep(2.0)
        made.found = {}
        made.tell()
        await trio.sleep(2.0)
        assert made.on_disk() == {A: ("10.0.0.1:1",)}


async def test_the_same_is_not_written_again(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[object] = []
    monkeypatch.setattr(address_book, "save_addresses", lambda *said: writes.append(said))
    async with kept(tmp_path) as made:
        made.found = {A: ("10.0.0.1:1",)}
        for _ in range(5):
            made.tell()
            await trio.sleep(2.0)
    assert len(writes) == 1


async def test_one_is_forgotten_and_an_unknown_one_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as made:
        made.found = {A: ("10.0.0.1:1",), B: ("10.0.0.2:1",)}
        made.tell()
        await trio.sleep(2.0)
        await made.book.forget(node_id(9))
        await made.book.forget(A)
        assert made.on_disk() == {B: ("10.0.0.2:1",)}


async def test_once_closed_nothing_is_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with kept(tmp_path) as made:
        made.book.close()
        made.found = {A: ("10.0.0.1:1",)}
        made.tell()
        await trio.sleep(2.0)
        assert made.on_disk() == {}


async def test_a_full_disk_ends_nothing_and_the_next_change_is_tried(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SecretFileError("cannot write: No space left on device")

    async with kept(tmp_path) as made:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(address_book, "save_addresses", full)
            made.found = {A: ("10.0.0.1:1",)}
            made.tell()
            await trio.sleep(2.0)
        assert made.on_disk() == {}
        made.found = {A: ("10.0.0.2:1",)}
        made.tell()
        await trio.sleep(2.0)
        assert made.on_disk() == {A: ("10.0.0.2:1",)}


def test_what_another_mesh_knew_is_not_ours(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", time.time)
    home.node_key()
    address_book.save_addresses(home.addresses, bytes(32), [address_book.Remembered(A, ("10.0.0.1:1",))])
    assert AddressBook(home, MESH, trio.Lock()).known() == {}
