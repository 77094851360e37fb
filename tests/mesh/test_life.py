"""One membership as it is lived: how it dials, whom it lets in, how it is renewed, and how it ends."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.config import load
from meshnode.errors import HandshakeFailed, LinkError
from meshnode.identity import Issuer, Mesh, MeshRoot, Rotation
from meshnode.keep.home import Home, Membership
from meshnode.mesh import life as life_module
from meshnode.mesh.join import Joined
from meshnode.mesh.life import FIRST_LINK_S, Life, Means
from meshnode.mesh.work import Work
from meshnode.model.advert import Advert
from meshnode.net import Link, LinkStream
from meshnode.net.listen import Welcome, serve
from meshnode.testing.virtual import VirtualNet
from tests.net.kit import ask, linked

ROOT = MeshRoot.generate()
MESH = Mesh(ROOT.mesh, "home", secrets.token_bytes(32))


@pytest.fixture(autouse=True)
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread writes, everybody else waits and the virtual clock would run away."""

    async def at_once(work: Any, *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("trio.to_thread.run_sync", at_once)


async def no_jobs(link: Link, stream: LinkStream) -> None:
    stream.reset()


class Lives:
    """Lives on one virtual net."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.net = VirtualNet()
        self.folder = folder
        self.nursery = nursery

    def make(self, name: str, *, mesh: Mesh = MESH, peers: tuple[str, ...] = ()) -> Life:
        home = Home(self.folder / name, time.time)
        key = home.node_key()
        chain = Issuer(ROOT, mesh.id).issue(key.id, int(time.time()), 1)
        config = load(flags={"node": {"name": name}, "mesh": {"peers": peers}})
        pipes = self.net.pipes(name)
        means = Means(
            home, key, config, pipes, Work(no_jobs), random.Random(name), trio.Lock(), lambda: pipes.reachable
        )
        return Life(means, Membership(mesh, chain), home.bump_incarnation())

    async def start(self, name: str, **how: Any) -> Life:
        """One that accepts links, runs and says who it is."""
        life = self.make(name, **how)
        pipes, section = life._means.pipes, life._means.config.mesh
        door = life.doorway
        welcome = Welcome(door.responder, door.check, life.mesh.peers.live)
        await self.nursery.start(serve, list(pipes.listeners), welcome, section)
        await self.nursery.start(life.run, lambda _: None)
        key, mesh = life.papers.key, life.papers.mesh
        life.mesh.describe(Advert(bytes(key.id), mesh.id, 0, 0, 1, name=name, addresses=pipes.reachable))
        return life


@asynccontextmanager
async def lives(folder: Path) -> AsyncIterator[Lives]:
    async with trio.open_nursery() as nursery:
        yield Lives(folder, nursery)
        nursery.cancel_scope.cancel()


# Who is there.


async def test_the_first_names_are_those_of_the_others_and_come_as_soon_as_there_is_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with lives(tmp_path) as where:
        await where.start("server")
        life = await where.start("node", peers=("server:6375",))
        began = trio.current_time()
        assert await life.first_names() == ["server"]
        assert trio.current_time() - began < FIRST_LINK_S


async def test_alone_a_join_waits_a_bounded_time_for_names(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with lives(tmp_path) as where:
        life = await where.start("node", peers=("nowhere:6375",))
        began = trio.current_time()
        assert await life.first_names() == []
        assert trio.current_time() - began == FIRST_LINK_S


# Dialling.


async def test_who_was_expelled_dials_nobody_and_says_why(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lives(tmp_path) as where:
        await where.start("server")
        life = where.make("node")
        monkeypatch.setattr(type(life.papers), "expelled", "it was revoked")
        with pytest.raises(HandshakeFailed, match="dials nobody: it was revoked"):
            await life._connect(("server:6375",), None)


async def test_older_secrets_are_tried_where_nobody_says_a_word_to_the_new_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with lives(tmp_path) as where:
        server = await where.start("server")
        now = int(time.time())
        rotated = MESH.rotated(Rotation(MESH.id, MESH.generation + 1, secrets.token_bytes(32), now), now)
        life = where.make("node", mesh=rotated)
        assert len(life.doorway.initiators()) == 2
        found = await life._connect(("server:6375",), None)
        assert found.peer == server.papers.key.id
        await found.stream.aclose()


async def test_one_that_knows_none_of_the_secrets_meets_silence_and_is_told_what_that_may_mean(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with lives(tmp_path) as where:
        await where.start("server")
        life = where.make("node", mesh=replace(MESH, secret=secrets.token_bytes(32)))
        with pytest.raises(HandshakeFailed, match=r"not a word came back.* needs a new invite"):
            await life._connect(("server:6375",), None)


async def test_where_nobody_listens_that_is_what_is_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with lives(tmp_path) as where:
        life = where.make("node")
        with pytest.raises(LinkError, match="no host nowhere:6375") as error:
            await life._connect(("nowhere:6375",), None)
        assert "secret" not in str(error.value)


# Being renewed.


@pytest.mark.parametrize(("brought", "kept"), [(1, 1), (-1, 0)])
async def test_a_renewed_chain_counts_and_an_older_secret_does_not(
    tmp_path: Path, autojump_clock: MockClock, brought: int, kept: int
) -> None:
    async with lives(tmp_path) as where:
        life = where.make("node", mesh=replace(MESH, generation=0))
        mesh = replace(MESH, generation=brought, secret=secrets.token_bytes(32))
        chain = Issuer(ROOT, MESH.id).issue(life.papers.key.id, int(time.time()), 2)
        async with trio.open_nursery() as nursery:
            await nursery.start(life.run, lambda _: None)
            await life.renewed(Joined(Membership(mesh, chain), (), (), life.papers.key.id))
            life.end()
        assert life.papers.mesh.generation == kept
        assert life.papers.chain == chain
        assert (life.papers.mesh.secret == mesh.secret) is (kept == brought)


# Its end.


async def test_at_its_end_links_go_and_run_returns(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with lives(tmp_path) as where:
        server = await where.start("server")
        node = await where.start("node", peers=("server:6375",))
        await node.first_names()
        assert len(server.mesh.peers.links) == 1
        accepted = next(iter(server.mesh.peers.links.values()))
        server.end()
        await trio.testing.wait_all_tasks_blocked()
        assert accepted.reason is not None
        assert not server.mesh.peers.links


async def test_what_is_closed_writes_no_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with lives(tmp_path) as where:
        await where.start("server")
        node = await where.start("node", peers=("server:6375",))
        node.close()
        await node.first_names()
        await trio.sleep(120.0)
        assert not node._means.home.addresses.exists()


# Somebody with an invite.


async def test_a_joiner_may_ask_to_join_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lives(tmp_path) as where:
        life = where.make("node")
        asked: list[str] = []

        async def welcome(link: Link, stream: LinkStream) -> None:
            asked.append((await stream.head())[":path"])
            stream.reset()

        monkeypatch.setattr(life.inviter, "welcome", welcome)
        made: list[Any] = []

        class Caught(Link):
            def __init__(self, found: Any, answer: Any, section: Any) -> None:
                made.append((answer, section))

            async def run(self, **_: Any) -> None:
                async with linked(serve=made[0][0]) as pair:
                    for path in (life_module.JOIN_PATH, "/v1/chat/completions", "/meshnode/gossip"):
                        stream = await pair.dialer.request(ask(path), b"")
                        with pytest.raises(LinkError):
                            await stream.head()

        monkeypatch.setattr(life_module, "Link", Caught)
        await life.welcome_joiner(None)  # type: ignore[arg-type]
        assert asked == [life_module.JOIN_PATH]
