"""A node as a member: who it believes in each trust mode, what it may do, and how it leaves."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.config import load
from meshnode.errors import (
    CertificateRefused,
    ConfigError,
    HandshakeFailed,
    IdentityError,
    InviteRefused,
    SecretFileError,
)
from meshnode.identity import NodeKey, Role, Rotation
from meshnode.keep.home import Home
from meshnode.mesh.inviter import Wish
from meshnode.mesh.member import Member
from meshnode.mesh.pipes import Pipes
from meshnode.mesh.work import Work
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from tests.kit.world import Papers, ScriptedEngine, Wall, World, WorldNode, world

MODEL = "m"
PINNED = {"mesh": {"trust": "pinned"}}
TOFU = {"mesh": {"trust": "psk-tofu"}}


async def no_jobs(link: Link, stream: LinkStream) -> None:
    stream.reset()


async def reason_against(node: WorldNode, other: str) -> str:
    """Why `other` is not to be linked from `node`, in the words that a log shows."""
    with pytest.raises(HandshakeFailed) as caught:
        await node.member.mesh._standing.connect((f"{other}:6375",), None)
    return str(caught.value)


class TestPinned:
    async def pair(self, where: World) -> tuple[WorldNode, WorldNode]:
        """Two members that do not pin each other."""
        studio = await where.add("studio", papers=Papers(root=True), settings=PINNED)
        laptop = await where.add("laptop", peers=("studio",), settings=PINNED)
        await trio.sleep(20.0)
        assert not studio.member.view().links
        return studio, laptop

    async def test_a_member_that_is_not_pinned_gets_no_link_and_is_told(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio, laptop = await self.pair(where)
            assert "not pinned" in await reason_against(laptop, "studio")
            await laptop.member.trust_node(studio.id)
            assert "refused this node" in await reason_against(laptop, "studio")
            assert not studio.member.pinned(laptop.id) and laptop.member.pinned(studio.id)

    async def test_pinning_each_other_links_and_forgetting_cuts(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio, laptop = await self.pair(where)
            assert await laptop.member.trust_node(studio.id)
            assert await studio.member.trust_node(laptop.id)
            assert not await studio.member.trust_node(laptop.id)
            with trio.fail_after(120.0):
                await studio.until_linked(laptop)
            assert await studio.member.forget(laptop.id)
            with trio.fail_after(5.0):
                await studio.until_linked()
            await trio.sleep(120.0)
            assert not studio.member.view().links and laptop.id not in studio.member.view().adverts

    async def test_pins_are_kept_and_those_of_the_configuration_are_not_forgotten_by_hand(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            other = NodeKey.generate().id
            named = {"mesh": {"trust": "pinned", "pinned": (other.text,)}}
            studio = await where.add("studio", settings=named)
            pinned = NodeKey.generate().id
            await studio.member.trust_node(pinned)
            with pytest.raises(IdentityError, match=r"remove it from mesh\.pinned"):
                await studio.member.forget(other)
            await where.kill("studio")
            again = await where.add("studio", settings=PINNED)
            assert again.member.pinned(pinned) and not again.member.pinned(other)

    async def test_an_invite_pins_both_ends(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", papers=Papers(root=True), settings=PINNED)
            laptop = await where.add("laptop", papers=Papers(none=True), settings=PINNED)
            await laptop.member.join(studio.member.invite(Wish(600)).token)
            with trio.fail_after(30.0):
                await studio.until_linked(laptop)
            assert studio.member.pinned(laptop.id) and laptop.member.pinned(studio.id)

    def test_a_pin_that_is_no_id_is_told_with_the_other_faults(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        wrong = load(flags={"mesh": {"pinned": ("studio", "me"), "peers": ("a:99999",)}})
        with pytest.raises(ConfigError) as caught:
            Member(home, home.node_key(), wrong, Pipes((), ()), Work(no_jobs), Random(1))
        assert len(caught.value.faults) == 3


class TestPskTofu:
    async def pair(self, where: World) -> tuple[WorldNode, WorldNode]:
        studio = await where.add("studio", settings=TOFU)
        laptop = await where.add("laptop", peers=("studio",), settings=TOFU)
        with trio.fail_after(10.0):
            await studio.until_linked(laptop)
            await studio.until_reachable({"laptop"})
            await laptop.until_reachable({"studio"})
        return studio, laptop

    async def test_whoever_has_the_secret_is_in_and_may_do_all_but_invite(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio, laptop = await self.pair(where)
            assert studio.member.roles(laptop.id) == {"client", "relay", "serve"}
            assert studio.member.pinned(laptop.id)
            assert studio.member.standing() == {
                "trust": "psk-tofu", "roles": ["client", "relay", "serve"], "owner": "", "member_until": None,
                "may_invite": False, "holds_root": False, "secret_generation": 0, "revoked": None,
            }  # fmt: skip

    async def test_another_key_under_a_known_name_is_refused_until_the_name_is_forgotten(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio, laptop = await self.pair(where)
            await trio.sleep(30.0)
            await where.kill("laptop")
            for name in ("node.key", "incarnation"):
                (laptop.home.path / name).unlink()
            again = await where.add("laptop", peers=("studio",), settings=TOFU)
            assert again.id != laptop.id
            await trio.sleep(30.0)
            assert not studio.member.view().links
            assert "the name 'laptop' belongs to" in await reason_against(again, "studio")
            assert await studio.member.forget(laptop.id)
            with trio.fail_after(120.0):
                await studio.until_linked(again)

    async def test_names_outlive_a_restart(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as where:
            _, laptop = await self.pair(where)
            await trio.sleep(30.0)
            await where.kill("studio")
            again = await where.add("studio", settings=TOFU)
            assert again.member.pinned(laptop.id)

    async def test_revoking_bars_at_this_node_alone(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as where:
            studio, laptop = await self.pair(where)
            revoked = await studio.member.revoke(laptop.id)
            assert revoked.local_only and revoked.dropped and revoked.name == "laptop"
            with trio.fail_after(5.0):
                await studio.until_linked()
            await trio.sleep(120.0)
            assert not studio.member.view().links
            assert laptop.member.standing()["revoked"] is None
            assert await studio.member.trust_node(laptop.id)
            with trio.fail_after(120.0):
                await studio.until_linked(laptop)

    async def test_what_needs_certificates_says_what_to_do_instead(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", settings=TOFU)
            other = await where.add("other", papers=Papers(none=True))
            for deed in (lambda: studio.member.invite(Wish(600)),):
                with pytest.raises(CertificateRefused, match=r"copy of the file mesh\.secret"):
                    deed()
            with pytest.raises(IdentityError, match="meshnode mesh secret"):
                await studio.member.rotate()
            with pytest.raises(IdentityError, match="move that file away"):
                await studio.member.leave_mesh()
            with pytest.raises(InviteRefused, match=r"copy mesh\.secret"):
                await studio.member.join(other.member.invite(Wish(600)).token)

    def test_without_the_secret_it_does_not_start(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        with pytest.raises(IdentityError, match="`meshnode mesh secret` makes one"):
            Member(home, home.node_key(), load(flags=TOFU), Pipes((), ()), Work(no_jobs), Random(1))
        (home.path / "mesh.secret").write_text("meshnode-secret-1-wrong")
        (home.path / "mesh.secret").chmod(0o600)
        with pytest.raises(SecretFileError, match="mistyped"):
            Member(home, home.node_key(), load(flags=TOFU), Pipes((), ()), Work(no_jobs), Random(1))


class TestRoles:
    async def test_models_and_relaying_of_who_may_not_are_not_believed(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", papers=Papers(root=True))
            client = await where.add(
                "client", peers=("studio",), engine=ScriptedEngine(MODEL), papers=Papers(roles=(Role.CLIENT,))
            )
            await studio.until_reachable({"client"})
            await trio.sleep(5.0)
            seen = studio.member.view().adverts[client.id]
            assert seen.models == () and not seen.relay
            # Its own engine goes on serving it.
            assert client.member.view().adverts[client.id].models
            assert studio.member.roles(client.id) == {"client"}
            assert client.member.roles(client.id) == {"client"}

    async def test_a_stranger_has_none(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio")
            assert studio.member.roles(NodeKey.generate().id) == frozenset()

    async def test_a_membership_that_has_ended_is_none(
        self, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wall = Wall(monkeypatch)
        async with world(tmp_path) as where:
            studio = await where.add("studio")
            laptop = await where.add("laptop", peers=("studio",))
            await studio.until_reachable({"laptop"})
            wall.skip(31 * 86_400)
            await trio.sleep(5.0)
            assert laptop.id not in studio.member.view().adverts
            assert "ended" in await reason_against(laptop, "studio")


class TestLeaving:
    async def test_a_member_leaves_for_a_private_mesh_and_may_join_again(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", papers=Papers(root=True))
            laptop = await where.add("laptop", papers=Papers(none=True))
            await laptop.member.join(studio.member.invite(Wish(600)).token)
            await studio.until_reachable({"laptop"})
            assert await laptop.member.leave_mesh() == "world"
            assert laptop.member.mesh_id != studio.member.mesh_id
            with trio.fail_after(2.0):
                while laptop.id in studio.member.view().adverts:
                    await studio.member.mesh.changed.wait()
            kept = laptop.home.membership(laptop.home.node_key())
            assert kept is not None and kept.mesh.id == laptop.member.mesh_id
            await trio.sleep(120.0)
            assert not studio.member.view().links and len(laptop.member.view().adverts) == 1
            await laptop.member.join(studio.member.invite(Wish(600)).token)
            with trio.fail_after(120.0):
                await studio.until_reachable({"laptop"})

    async def test_the_roots_holder_leaves_others_only_by_force(
        self, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", papers=Papers(root=True))
            laptop = await where.add("laptop", peers=("studio",), listens=False)
            await studio.until_reachable({"laptop"})
            old = studio.member.mesh
            with pytest.raises(IdentityError, match="holds the root"):
                await studio.member.leave_mesh()
            await studio.member.leave_mesh(force=True)
            assert studio.member.mesh_id != where.mesh.id
            # The link that it had accepted is gone too.
            await trio.sleep(1.0)
            assert not old.peers.links and not laptop.member.view().links

    async def test_nothing_of_the_old_mesh_is_left(self, tmp_path: Path, autojump_clock: MockClock) -> None:
        async with world(tmp_path) as where:
            studio = await where.add("studio", papers=Papers(root=True))
            laptop = await where.add("laptop", peers=("studio",))
            await laptop.until_reachable({"studio"})
            await studio.member.rotate()
            await trio.sleep(60.0)
            await laptop.member.leave_mesh()
            await trio.sleep(60.0)
            files = {path.name for path in laptop.home.path.iterdir() if path.is_file()}
            assert files == {"node.key", "mesh.cbor", "incarnation"}

    async def test_a_full_disk_says_so(
        self, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with world(tmp_path) as where:
            laptop = await where.add("laptop")
            before = laptop.member.mesh_id

            def full(home: Home) -> None:
                raise SecretFileError("cannot write: no space")

            monkeypatch.setattr(Home, "leave_mesh", full)
            with pytest.raises(SecretFileError, match="no space"):
                await laptop.member.leave_mesh()
            assert laptop.member.mesh_id == before


async def test_a_founder_is_who_its_configuration_says_and_a_member_who_its_certificate_does(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        mine = {"node": {"name": "x", "owner": "anna"}}
        founder = await where.add("founder", settings=mine, papers=Papers(none=True))
        member = await where.add("member", settings=mine)
        assert (founder.member.owner, member.member.owner) == ("anna", "")
        await where.kill("founder")
        renamed = await where.add("founder", settings={"node": {"name": "x", "owner": "bob"}}, papers=Papers(none=True))
        assert renamed.member.owner == "bob" and renamed.member.mesh_id == founder.member.mesh_id


async def test_a_revoked_node_invites_and_renews_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio = await where.add("studio", papers=Papers(root=True))
        inviter = await where.add("inviter", peers=("studio",))
        await studio.until_linked(inviter)
        assert inviter.member.standing()["may_invite"]
        await studio.member.revoke(inviter.id)
        await trio.sleep(1.0)
        with pytest.raises(CertificateRefused, match="out of the mesh"):
            inviter.member.invite(Wish(600))
        assert not inviter.member.standing()["may_invite"]


async def test_a_member_does_not_revoke_whom_it_knows_nothing_of(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It may be one that invites, whom only the root bars: then it would stay in, and be believed out."""
    async with world(tmp_path) as where:
        await where.add("root", papers=Papers(root=True))
        studio = await where.add("studio", peers=("root",))
        with pytest.raises(CertificateRefused, match="cannot tell whether it may invite"):
            await studio.member.revoke(NodeId(b"x" * 32))


async def test_a_node_is_revoked_though_the_secret_cannot_be_rotated(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        root = await where.add("root", papers=Papers(root=True))
        studio = await where.add("studio", peers=("root",))
        plain = await where.add("plain", peers=("studio",), papers=Papers((Role.CLIENT,)))
        with trio.fail_after(10.0):
            await studio.until_linked(root, plain)
            await studio.until_reachable({"root", "plain"})
        now = int(time.time())
        studio.member.mesh.post(where._issuer("").notice(Rotation(where.mesh.id, now + 900, b"s" * 32, now)))
        with pytest.raises(CertificateRefused, match="holds the root"):
            await studio.member.rotate()
        assert (await studio.member.revoke(plain.id)).generation == now + 900
        with trio.fail_after(5.0):
            await root.until_linked(studio)
            await studio.until_linked(root)


async def test_a_node_renewed_by_a_revoked_one_can_be_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Invited by the root, renewed by a member: out with that one, unless it is kept, and said to be so."""
    async with world(tmp_path) as where:
        root = await where.add("root", papers=Papers(root=True))
        inviter = await where.add("inviter", peers=("root",))
        plain = await where.add("plain", peers=("root",), papers=Papers((Role.CLIENT,)))
        with trio.fail_after(10.0):
            await root.until_linked(inviter, plain)
        own = plain.member._papers.certificate
        assert own is not None
        issuer = inviter.member.membership.issuer(inviter.home.node_key())
        chain = issuer.issue(plain.id, int(time.time()), 7, roles=own.roles, invited_by=where.mesh.id)
        plain.member._papers.adopt(msgspec.structs.replace(plain.member.membership, chain=chain))
        plain.member.mesh.refresh()
        await trio.sleep(10.0)
        done = await root.member.revoke(inviter.id, keep_invited=True)
        await trio.sleep(10.0)
        assert plain.id in root.member.view().adverts and done.also == ()


async def test_a_node_does_not_revoke_itself_nor_a_plain_member_anybody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        studio = await where.add("studio", papers=Papers(root=True))
        plain = await where.add("plain", peers=("studio",), papers=Papers(roles=(Role.CLIENT,)))
        inviter = await where.add("inviter", peers=("studio",))
        await inviter.until_reachable({"studio", "plain"})
        with pytest.raises(IdentityError, match="meshnode leave"):
            await studio.member.revoke(studio.id)
        with pytest.raises(CertificateRefused, match="may not invite"):
            await plain.member.revoke(studio.id)
        with pytest.raises(CertificateRefused, match="may not invite"):
            await plain.member.rotate()
        with pytest.raises(CertificateRefused, match="holds the root"):
            await inviter.member.revoke(studio.id)
        assert set(studio.member.view().links) == {plain.id, inviter.id}
