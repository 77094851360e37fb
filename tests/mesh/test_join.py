"""One line lets one machine in, once; every other way in is refused with a reason, and nothing is kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio

from meshnode.config import Config, load
from meshnode.errors import CertificateRefused, ConfigError, InviteRefused, StartError
from meshnode.keep.addresses import load_addresses
from meshnode.keep.home import Home
from meshnode.mesh.join import join_mesh
from meshnode.mesh.member import Member, Pipes
from meshnode.model.advert import Advert
from meshnode.net import Link, LinkStream, open_listeners


@dataclass
class Running:
    home: Home
    member: Member


def config(name: str) -> Config:
    return load(flags={"node": {"name": name}})


async def no_jobs(link: Link, stream: LinkStream) -> None:
    stream.reset()


@asynccontextmanager
async def running(folder: Path, name: str) -> AsyncIterator[Running]:
    """A member with a real listener on loopback."""
    home = Home(folder / name)
    listeners = await open_listeners("127.0.0.1:0")
    host, port = listeners[0].socket.getsockname()
    member = Member(home, home.node_key(), config(name), Pipes(listeners, (f"{host}:{port}",)), no_jobs, Random(1))
    member.describe(Advert(bytes(member.me), member.mesh_id, 0, 0, 1, name=name, addresses=member.addresses))
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        yield Running(home, member)
        nursery.cancel_scope.cancel()


async def test_an_invite_makes_a_member_that_knows_where_to_dial(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        home = Home(tmp_path / "laptop")
        joined = await join_mesh(home, f"  {token}\n", config("laptop"))
        assert joined.membership.mesh == studio.member.membership.mesh
        kept = home.membership(home.node_key())
        assert kept is not None and kept.mesh == joined.membership.mesh and kept.root_seed is None
        assert load_addresses(home.addresses, kept.mesh.id) == studio.member.addresses


async def test_an_invite_is_good_once(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        await join_mesh(Home(tmp_path / "first"), token, config("first"))
        second = Home(tmp_path / "second")
        with pytest.raises(InviteRefused, match="used up"):
            await join_mesh(second, token, config("second"))
        assert second.membership(second.node_key()) is None
        assert not second.addresses.exists()


async def test_a_used_invite_stays_used_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        await join_mesh(Home(tmp_path / "first"), token, config("first"))
        port = studio.member.addresses[0]
    home = Home(tmp_path / "studio")
    listeners = await open_listeners(port)
    member = Member(home, home.node_key(), config("studio"), Pipes(listeners, (port,)), no_jobs, Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        with pytest.raises(InviteRefused):
            await join_mesh(Home(tmp_path / "second"), token, config("second"))
        nursery.cancel_scope.cancel()


async def test_a_mistyped_an_expired_and_a_foreign_invite_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        home = Home(tmp_path / "laptop")
        with pytest.raises(InviteRefused, match="mistyped or cut short"):
            await join_mesh(home, token[:-3], config("laptop"))
        with pytest.raises(InviteRefused, match="mistyped or cut short"):
            await join_mesh(home, token[:40] + ("A" if token[40] != "A" else "B") + token[41:], config("laptop"))
        with pytest.raises(InviteRefused, match="not an invite"):
            await join_mesh(home, "hello", config("laptop"))
        with monkeypatch.context() as later:
            import time

            now = time.time()
            later.setattr("time.time", lambda: now + 601)
            with pytest.raises(InviteRefused, match="expired"):
                await join_mesh(home, token, config("laptop"))
        assert home.membership(home.node_key()) is None


async def test_nobody_there_is_said_with_the_addresses_that_were_tried(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        address = studio.member.addresses[0]
    with pytest.raises(InviteRefused, match=address):
        await join_mesh(Home(tmp_path / "laptop"), token, config("laptop"))


async def test_a_home_in_use_is_not_joined_behind_its_nodes_back(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(600)
        home = Home(tmp_path / "laptop")
        with home, pytest.raises(StartError, match="in use"):
            await join_mesh(Home(tmp_path / "laptop"), token, config("laptop"))


async def test_a_running_node_joins_and_sees_who_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        before = laptop.member.mesh_id
        names = await laptop.member.join(studio.member.invite(600))
        assert names == ["studio"]
        assert laptop.member.mesh_id == studio.member.mesh_id != before
        with trio.fail_after(10):
            while laptop.member.me not in studio.member.view().links:
                await studio.member.mesh.changed.wait()


async def test_a_node_with_company_is_not_taken_into_another_mesh(tmp_path: Path) -> None:
    async with running(tmp_path, "a") as one, running(tmp_path, "b") as other, running(tmp_path, "c") as third:
        await other.member.join(one.member.invite(600))
        with pytest.raises(InviteRefused, match="with 1 other node"):
            await other.member.join(third.member.invite(600))


async def test_the_same_invite_twice_by_one_running_node_is_refused_by_name(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        with pytest.raises(InviteRefused, match="already"):
            await studio.member.join(studio.member.invite(600))


async def test_an_invited_member_invites_in_its_turn_and_whom_it_invited_may_not(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        await laptop.member.join(studio.member.invite(600))
        token = laptop.member.invite(600)
        third = Home(tmp_path / "third")
        joined = await join_mesh(third, token, config("third"))
        assert joined.membership.mesh.id == studio.member.mesh_id
        assert len(joined.membership.chain) == 2
        with pytest.raises(CertificateRefused, match="may not invite"):
            joined.membership.issuer(third.node_key())


async def test_a_node_without_a_listener_cannot_invite(tmp_path: Path) -> None:
    home = Home(tmp_path / "quiet")
    member = Member(home, home.node_key(), config("quiet"), Pipes((), ()), no_jobs, Random(1))
    with pytest.raises(InviteRefused, match="nobody can reach it"):
        member.invite(600)


async def test_two_joins_at_once_are_one(tmp_path: Path) -> None:
    async with running(tmp_path, "one") as one, running(tmp_path, "two") as two, running(tmp_path, "laptop") as laptop:
        tokens = [one.member.invite(600), two.member.invite(600)]
        outcomes: list[str] = []

        async def use(token: str) -> None:
            try:
                outcomes.append(" ".join(await laptop.member.join(token)))
            except InviteRefused as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(use, token)
        assert sum("joining a mesh" in outcome for outcome in outcomes) == 1
        assert laptop.member.membership.mesh in (one.member.membership.mesh, two.member.membership.mesh)


def test_peers_that_are_no_addresses_are_told_all_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    wrong = load(flags={"mesh": {"peers": ("studio", "a:99999", "fine:1")}})
    with pytest.raises(ConfigError) as caught:
        Member(home, home.node_key(), wrong, Pipes((), ()), no_jobs, Random(1))
    assert len(caught.value.faults) == 2
