"""One line lets one machine in, once; every other way in is refused with a reason, and nothing is kept of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio
import trio.testing

from meshnode.config import Config, load
from meshnode.errors import CertificateRefused, ConfigError, InviteRefused, SecretFileError, StartError
from meshnode.identity import Invite, Revocation, Role
from meshnode.identity.certificates import read_membership
from meshnode.keep.addresses import Remembered, load_addresses, save_addresses
from meshnode.keep.home import Home
from meshnode.mesh.inviter import Wish
from meshnode.mesh.join import join_mesh, join_with
from meshnode.mesh.member import Member
from meshnode.mesh.pipes import Pipes
from meshnode.mesh.work import Work
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream, open_listeners, socket_stream


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
    member = Member(
        home, home.node_key(), config(name), Pipes(listeners, (f"{host}:{port}",)), Work(no_jobs), Random(1)
    )
    member.describe(Advert(bytes(member.me), member.mesh_id, 0, 0, 1, name=name, addresses=member.addresses))
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        yield Running(home, member)
        nursery.cancel_scope.cancel()


async def test_an_invite_makes_a_member_that_knows_where_to_dial(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
        home = Home(tmp_path / "laptop")
        joined = await join_mesh(home, f"  {token}\n", config("laptop"))
        assert joined.membership.mesh == studio.member.membership.mesh
        kept = home.membership(home.node_key())
        assert kept is not None and kept.mesh == joined.membership.mesh and kept.root_seed is None
        (known,) = load_addresses(home.addresses, kept.mesh.id)
        assert (known.id, known.addresses) == (studio.member.me, studio.member.addresses)


async def test_a_whole_laboratory_behind_one_address_joins_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:

        async def come(number: int) -> None:
            token = studio.member.invite(Wish(600)).token
            await join_mesh(Home(tmp_path / f"bench-{number}"), token, config(f"bench-{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(24):
                nursery.start_soon(come, number)


@pytest.mark.parametrize(("silent", "joins"), [(0, True), (2, True), (3, False)])
async def test_who_is_sent_away_without_a_word_tries_twice_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: int, joins: bool
) -> None:
    monkeypatch.setattr("meshnode.mesh.join.PAUSES_S", (0.0, 0.0))
    async with running(tmp_path, "studio") as studio:
        invite = Invite.parse(studio.member.invite(Wish(600)).token, int(time.time()))
        tries = 0

        async def at_the_door(host: str, port: int) -> trio.abc.Stream:
            nonlocal tries
            tries += 1
            near, far = trio.testing.memory_stream_pair()
            if tries <= silent:
                await far.aclose()
                return near
            return await socket_stream.connect(host, port)

        joining = join_with(Home(tmp_path / "laptop"), invite.token(), config("laptop"), connect=at_the_door)
        if joins:
            assert (await joining).membership.mesh == studio.member.membership.mesh
        else:
            with pytest.raises(InviteRefused, match="no way in"):
                await joining
        assert tries == silent + joins


async def test_a_refusal_in_words_is_final_though_another_address_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, "studio") as studio:
        invite = Invite.parse(studio.member.invite(Wish(600)).token, int(time.time()))
        invite = msgspec.structs.replace(invite, addresses=("bridge:6375", *invite.addresses))
        dialled = []

        async def at_the_door(host: str, port: int) -> trio.abc.Stream:
            dialled.append(host)
            if host != "bridge":
                return await socket_stream.connect(host, port)
            near, far = trio.testing.memory_stream_pair()
            await far.aclose()
            return near

        def no(*_: bytes) -> None:
            raise CertificateRefused("its clock is wrong")

        monkeypatch.setattr("meshnode.mesh.papers.Papers.check_joiner", no)
        with pytest.raises(InviteRefused, match="its clock is wrong"):
            await join_with(Home(tmp_path / "laptop"), invite.token(), config("laptop"), connect=at_the_door)
        assert sorted(dialled) == ["127.0.0.1", "bridge"]


async def test_a_closed_port_is_said_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
    tries = 0

    async def shut(host: str, port: int) -> trio.abc.Stream:
        nonlocal tries
        tries += 1
        raise ConnectionRefusedError

    with pytest.raises(InviteRefused, match="no way in"):
        await join_with(Home(tmp_path / "laptop"), token, config("laptop"), connect=shut)
    assert tries == 1


async def test_an_invite_is_good_once(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
        await join_mesh(Home(tmp_path / "first"), token, config("first"))
        second = Home(tmp_path / "second")
        with pytest.raises(InviteRefused, match="has been used by 'first'"):
            await join_mesh(second, token, config("second"))
        assert second.membership(second.node_key()) is None
        assert not second.addresses.exists()


async def test_a_used_invite_stays_used_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
        await join_mesh(Home(tmp_path / "first"), token, config("first"))
        port = studio.member.addresses[0]
    home = Home(tmp_path / "studio")
    listeners = await open_listeners(port)
    member = Member(home, home.node_key(), config("studio"), Pipes(listeners, (port,)), Work(no_jobs), Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(member.run)
        with pytest.raises(InviteRefused):
            await join_mesh(Home(tmp_path / "second"), token, config("second"))
        nursery.cancel_scope.cancel()


async def test_a_mistyped_an_expired_and_a_foreign_invite_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
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
        token = studio.member.invite(Wish(600)).token
        address = studio.member.addresses[0]
    with pytest.raises(InviteRefused, match=address):
        await join_mesh(Home(tmp_path / "laptop"), token, config("laptop"))


async def test_a_home_in_use_is_not_joined_behind_its_nodes_back(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
        home = Home(tmp_path / "laptop")
        with home, pytest.raises(StartError, match="in use"):
            await join_mesh(Home(tmp_path / "laptop"), token, config("laptop"))


async def test_a_running_node_joins_and_sees_who_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        before = laptop.member.mesh_id
        names = await laptop.member.join(studio.member.invite(Wish(600)).token)
        assert names == ["studio"]
        assert laptop.member.mesh_id == studio.member.mesh_id != before
        with trio.fail_after(10):
            while laptop.member.me not in studio.member.view().links:
                await studio.member.mesh.changed.wait()


async def test_a_node_with_company_is_not_taken_into_another_mesh(tmp_path: Path) -> None:
    async with running(tmp_path, "a") as one, running(tmp_path, "b") as other, running(tmp_path, "c") as third:
        await other.member.join(one.member.invite(Wish(600)).token)
        with pytest.raises(InviteRefused, match="with 1 other node"):
            await other.member.join(third.member.invite(Wish(600)).token)


async def test_an_invited_member_invites_in_its_turn_and_whom_it_invited_may_not(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        await laptop.member.join(studio.member.invite(Wish(600)).token)
        token = laptop.member.invite(Wish(600)).token
        third = Home(tmp_path / "third")
        joined = await join_mesh(third, token, config("third"))
        assert joined.membership.mesh.id == studio.member.mesh_id
        assert len(joined.membership.chain) == 2
        with pytest.raises(CertificateRefused, match="may not invite"):
            joined.membership.issuer(third.node_key())


async def test_a_node_without_a_listener_cannot_invite(tmp_path: Path) -> None:
    home = Home(tmp_path / "quiet")
    member = Member(home, home.node_key(), config("quiet"), Pipes((), ()), Work(no_jobs), Random(1))
    with pytest.raises(InviteRefused, match="nobody can reach it"):
        member.invite(Wish(600))


async def test_two_joins_at_once_are_one(tmp_path: Path) -> None:
    async with running(tmp_path, "one") as one, running(tmp_path, "two") as two, running(tmp_path, "laptop") as laptop:
        tokens = [one.member.invite(Wish(600)).token, two.member.invite(Wish(600)).token]
        outcomes: list[str] = []

        async def use(token: str) -> None:
            try:
                outcomes.append(" ".join(await laptop.member.join(token)))
            except InviteRefused as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(use, token)
        assert sum("joining or leaving a mesh" in outcome for outcome in outcomes) == 1
        assert laptop.member.membership.mesh in (one.member.membership.mesh, two.member.membership.mesh)


def test_peers_that_are_no_addresses_are_told_all_at_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    wrong = load(flags={"mesh": {"peers": ("studio", "a:99999", "fine:1")}})
    with pytest.raises(ConfigError) as caught:
        Member(home, home.node_key(), wrong, Pipes((), ()), Work(no_jobs), Random(1))
    assert len(caught.value.faults) == 2


async def test_an_invite_that_ended_on_its_way_is_refused_by_its_maker_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, "studio") as studio:
        token = studio.member.invite(Wish(600)).token
        parse = Invite.parse
        # The joiner's clock is behind.
        monkeypatch.setattr(Invite, "parse", lambda text, now: parse(text, now - 700))
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 650)
        home = Home(tmp_path / "laptop")
        with pytest.raises(InviteRefused, match="the inviting node refused: the invite has expired"):
            await join_mesh(home, token, config("laptop"))
        assert home.membership(home.node_key()) is None


async def test_a_guessed_invite_gets_not_one_byte(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        made = Invite.parse(studio.member.invite(Wish(600)).token, int(time.time()))
        guessed = msgspec.structs.replace(made, secret=b"g" * 16).token()
        home = Home(tmp_path / "laptop")
        with pytest.raises(InviteRefused, match="closed the connection before it said anything"):
            await join_mesh(home, guessed, config("laptop"))
        assert home.membership(home.node_key()) is None
        # Whoever guesses uses nothing up.
        await join_mesh(home, made.token(), config("laptop"))


async def test_an_invite_bent_towards_another_mesh_or_signer_opens_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "other") as other:
        made = Invite.parse(studio.member.invite(Wish(600)).token, int(time.time()))
        home = Home(tmp_path / "laptop")
        for change in ({"mesh": bytes(other.member.mesh_id)}, {"signer": bytes(other.member.me)}):
            with pytest.raises(InviteRefused, match="no way in"):
                await join_mesh(home, msgspec.structs.replace(made, **change).token(), config("laptop"))
        assert home.membership(home.node_key()) is None


async def test_a_running_node_that_is_refused_stays_what_it_was(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        token = studio.member.invite(Wish(600)).token
        await join_mesh(Home(tmp_path / "first"), token, config("first"))
        before = laptop.member.membership
        with pytest.raises(InviteRefused, match="used by 'first'"):
            await laptop.member.join(token)
        assert laptop.member.membership is before
        assert laptop.home.membership(laptop.home.node_key()) == before


async def test_roles_and_owner_are_the_inviters_word(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio:
        made = studio.member.invite(Wish(600, roles=("client",), owner="anna"))
        assert (made.roles, made.owner, made.root, made.expires_s) == (("client",), "anna", False, 600)
        home = Home(tmp_path / "laptop")
        boasting = load(flags={"node": {"name": "laptop", "owner": "somebody else"}})
        joined = await join_mesh(home, made.token, boasting)
        certificate = read_membership(joined.membership.chain[0])
        assert (certificate.roles, certificate.owner) == ((Role.CLIENT,), "anna")
        assert joined.membership.root_seed is None


async def test_what_cannot_be_given_is_not_promised(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        with pytest.raises(InviteRefused, match=r"'king'.*client, invite, relay, serve"):
            studio.member.invite(Wish(600, roles=("king",)))
        await laptop.member.join(studio.member.invite(Wish(600)).token)
        assert set(laptop.member.invite(Wish(600)).roles) == {"client", "relay", "serve"}
        with pytest.raises(CertificateRefused, match="cannot give invite"):
            laptop.member.invite(Wish(600, roles=("invite",)))
        with pytest.raises(InviteRefused, match="one line of 64 characters"):
            laptop.member.invite(Wish(600, owner="x" * 65))
        with pytest.raises(CertificateRefused, match="does not hold the root"):
            laptop.member.invite(Wish(600, root=True))


async def test_a_second_machine_gets_the_root(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        await laptop.member.join(studio.member.invite(Wish(600, root=True)).token)
        assert laptop.member.standing()["holds_root"]
        assert laptop.member.membership.root_seed == studio.member.membership.root_seed
        assert "invite" in laptop.member.invite(Wish(600)).roles


async def test_a_member_that_uses_an_invite_of_its_own_mesh_changes_roles_and_keeps_its_links(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        await laptop.member.join(studio.member.invite(Wish(600, roles=("client", "serve"))).token)
        with trio.fail_after(10):
            while laptop.member.me not in studio.member.view().links:
                await studio.member.mesh.changed.wait()
            link = studio.member.link(laptop.member.me)
            names = await laptop.member.join(studio.member.invite(Wish(600, owner="anna")).token)
            assert names == ["studio"]
            assert laptop.member.roles(laptop.member.me) == set(Role)
            while studio.member.roles(laptop.member.me) != set(Role):
                await studio.member.mesh.changed.wait()
        assert studio.member.link(laptop.member.me) is link
        assert laptop.member.owner == "anna"
        kept = laptop.home.membership(laptop.home.node_key())
        assert kept is not None and kept.chain == laptop.member.membership.chain


async def test_the_root_needs_no_invite_of_its_own_mesh(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        with pytest.raises(InviteRefused, match="made by this very node"):
            await studio.member.join(studio.member.invite(Wish(600)).token)
        await laptop.member.join(studio.member.invite(Wish(600)).token)
        with pytest.raises(InviteRefused, match="holds the root"):
            await studio.member.join(laptop.member.invite(Wish(600)).token)


async def test_a_joiner_learns_who_was_revoked_and_a_revoked_one_is_not_invited_again(tmp_path: Path) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "thief") as thief:
        await thief.member.join(studio.member.invite(Wish(600)).token)
        await studio.member.revoke(thief.member.me)
        home = Home(tmp_path / "laptop")
        joined = await join_mesh(home, studio.member.invite(Wish(600)).token, config("laptop"))
        assert joined.membership.mesh.generation == 1
        (notice,) = home.notices(joined.membership.mesh.id)
        assert isinstance(notice.statement, Revocation) and notice.statement.node == thief.member.me
        token = studio.member.invite(Wish(600)).token
        with pytest.raises(InviteRefused, match="was revoked"):
            await thief.member.join(token)
        # The invite is still good for somebody else.
        await join_mesh(Home(tmp_path / "other"), token, config("other"))


async def test_an_invite_does_not_take_the_root_from_a_mesh_whose_members_are_off(tmp_path: Path) -> None:
    """With the node running or not: the root would be gone for good, and nothing was asked."""
    async with running(tmp_path, "c") as third:
        async with running(tmp_path, "a") as one:
            mesh, seed = one.member.membership.mesh.id, one.member.membership.root_seed
        save_addresses(one.home.addresses, mesh, [Remembered(NodeId(b"b" * 32), ("127.0.0.1:1",))])
        async with running(tmp_path, "a") as again:
            with pytest.raises(InviteRefused, match="with 1 other node"):
                await again.member.join(third.member.invite(Wish(600)).token)
        home = Home(tmp_path / "a")
        with pytest.raises(InviteRefused, match="has other members"):
            await join_mesh(home, third.member.invite(Wish(600)).token, config("a"))
        kept = home.membership(home.node_key())
        assert kept is not None and kept.root_seed == seed


async def test_a_full_disk_changes_no_mesh_and_no_part_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, "studio") as studio, running(tmp_path, "laptop") as laptop:
        token, member = studio.member.invite(Wish(600)).token, laptop.member

        def full(_: Home) -> int:
            raise SecretFileError("cannot write: no space")

        with monkeypatch.context() as patch:
            patch.setattr(Home, "bump_incarnation", full)
            for change in (lambda: member.join(token), member.leave_mesh):
                life, papers = member._life, member._papers
                with pytest.raises(SecretFileError, match="no space"):
                    await change()
                assert member._life is life
                assert not papers._closed
