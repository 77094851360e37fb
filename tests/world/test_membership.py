"""Five whole nodes in virtual time: somebody is shut out, the network secret changes, memberships are renewed, and
nothing else is disturbed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import HandshakeFailed
from meshnode.identity import MEMBERSHIP_LIFETIME_S, Role
from meshnode.mesh.inviter import Wish
from meshnode.model.ids import NodeId
from meshnode.net import Link
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, Wall, World, WorldNode, world

MODEL = "llama3.2:3b"
NAMES = ("founder", "alpha", "bravo", "charlie", "delta")
HOUR_S = 3600
DAY_S = 24 * HOUR_S
PLAIN = frozenset(Role) - {Role.INVITE}
INVITE = Wish(600)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


async def five(
    where: World, engine: ScriptedEngine | None = None, settings: dict[str, Any] | None = None
) -> list[WorldNode]:
    """Everybody is linked to everybody; the founder holds the root, alpha has the engine."""
    for name in NAMES:
        await where.add(
            name,
            peers=() if name == "founder" else ("founder",),
            engine=engine if name == "alpha" else None,
            papers=Papers(root=name == "founder"),
            settings=settings,
        )
    nodes = list(where.nodes.values())
    with trio.fail_after(10.0):
        for node in nodes:
            await node.until_linked(*(other for other in nodes if other is not node))
    return nodes


def links_without(nodes: list[WorldNode], out: WorldNode) -> dict[tuple[str, NodeId], Link]:
    """Every live link that does not lead to or from `out`."""
    return {
        (node.name, peer): link
        for node in nodes
        if node is not out
        for peer, link in node.member.mesh.peers.links.items()
        if peer != out.id
    }


async def gone(node: WorldNode, out: WorldNode) -> float:
    """When `node` had no link to `out` and knew it no more."""
    while out.id in node.member.view().links or out.id in node.member.view().adverts:
        await node.member.mesh.changed.wait()
    return trio.current_time()


async def dial_as(node: WorldNode, address: str) -> None:
    """As this node dials, whatever it thinks of itself."""
    await node.member.mesh._standing.connect((address,), None)


async def test_everybody_drops_a_revoked_node_at_once_and_no_other_link_or_stream_is_cut(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 20.0, EVENT, LAST])
        founder, alpha, bravo, charlie, delta = nodes = await five(where, engine)
        await bravo.until_reachable({"founder", "alpha", "charlie", "delta"}, model_of="alpha")
        stream = await bravo.ask(MODEL)
        before = links_without(nodes, charlie)
        began, times = trio.current_time(), list[float]()

        async def watch(node: WorldNode) -> None:
            times.append(await gone(node, charlie))

        async with trio.open_nursery() as nursery:
            for node in (founder, alpha, bravo, delta):
                nursery.start_soon(watch, node)
            revoked = await founder.member.revoke(charlie.id)
        assert (revoked.name, revoked.also, revoked.dropped, revoked.generation) == ("charlie", (), True, 1)
        assert not revoked.local_only
        assert len(times) == 4 and max(times) - began < 5.0
        assert b"".join([chunk async for chunk in stream]) == EVENT + EVENT + LAST
        assert links_without(nodes, charlie) == before


async def test_a_revoked_node_knows_it_dials_nobody_and_learns_no_new_secret(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        founder, *others, charlie, delta = await five(where, ScriptedEngine(MODEL))
        await founder.member.revoke(charlie.id)
        await trio.sleep(120.0)
        assert not charlie.member.view().links
        assert charlie.member.membership.mesh.secret == where.mesh.secret
        secrets = {node.member.membership.mesh.secret for node in (founder, *others, delta)}
        assert len(secrets) == 1 and where.mesh.secret not in secrets
        assert "revoked" in charlie.member.standing()["revoked"]
        with pytest.raises(HandshakeFailed, match="dials nobody"):
            await dial_as(charlie, "founder:6375")
        assert delta.member.standing()["revoked"] is None


async def test_a_revoked_node_that_lost_its_memory_is_refused_in_words_with_the_old_secret_and_then_without(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        founder, *_, charlie, _ = await five(where)
        await founder.member.revoke(charlie.id)
        await where.kill("charlie")
        (charlie.home.path / "notices.cbor").unlink(missing_ok=True)
        returned = await where.add("charlie", peers=("founder",))
        await trio.sleep(60.0)
        assert returned.id == charlie.id and not returned.member.view().links
        with pytest.raises(HandshakeFailed, match="was revoked"):
            await dial_as(returned, "founder:6375")
        wall.skip(25 * HOUR_S)
        with pytest.raises(HandshakeFailed, match="not a word came back"):
            await dial_as(returned, "founder:6375")


async def test_a_partition_that_heals_brings_the_revocation_before_the_new_secret(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        founder, alpha, bravo, charlie, delta = await five(where)
        where.net.partition(("founder", "alpha", "bravo"), ("charlie", "delta"))
        with trio.fail_after(30.0):
            await founder.until_linked(alpha, bravo)
            await delta.until_linked(charlie)
        await founder.member.revoke(charlie.id)
        await trio.sleep(30.0)
        assert charlie.id in delta.member.view().links
        await where.net.heal()
        with trio.fail_after(120.0):
            await delta.until_linked(founder, alpha, bravo)
        await trio.sleep(30.0)
        assert charlie.member.membership.mesh.secret == where.mesh.secret
        assert delta.member.membership.mesh.generation == 1
        assert not charlie.member.view().links


async def test_a_node_that_was_away_hears_of_a_revocation_and_remembers_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        founder, alpha, bravo, charlie, _ = await five(where)
        await where.kill("delta")
        await founder.member.revoke(charlie.id)
        # What is not written yet is written soon.
        await trio.sleep(60.0)
        returned = await where.add("delta", peers=("founder",))
        with trio.fail_after(30.0):
            await returned.until_linked(founder, alpha, bravo)
        await trio.sleep(10.0)
        assert charlie.id in returned.member._papers.notices.revoked()
        await where.kill("delta")
        alone = await where.add("delta")
        assert charlie.id in alone.member._papers.notices.revoked()
        assert alone.member.membership.mesh.generation == 1


async def test_a_rotation_reaches_everybody_and_cuts_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        founder, alpha, bravo, *_ = nodes = await five(where, ScriptedEngine(MODEL, [EVENT, 20.0, LAST]))
        await bravo.until_reachable(set(NAMES) - {"bravo"}, model_of="alpha")
        stream = await bravo.ask(MODEL)
        before = {node.name: dict(node.member.mesh.peers.links) for node in nodes}
        # Any member that may invite rotates, not the founder alone.
        assert await alpha.member.rotate() == 1
        await trio.sleep(1.0)
        assert await founder.member.rotate() == 2
        await trio.sleep(5.0)
        assert {node.member.membership.mesh.generation for node in nodes} == {2}
        assert len({node.member.membership.mesh.secret for node in nodes}) == 1
        assert b"".join([chunk async for chunk in stream]) == EVENT + LAST
        assert {node.name: dict(node.member.mesh.peers.links) for node in nodes} == before


async def test_two_rotations_at_once_end_in_one_secret(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        founder, alpha, *_ = nodes = await five(where)
        assert (await founder.member.rotate(), await alpha.member.rotate()) == (1, 1)
        await trio.sleep(5.0)
        assert len({node.member.membership.mesh.secrets(0)[0] for node in nodes}) == 1


async def test_whoever_was_off_during_a_rotation_returns_within_a_day(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        founder, alpha, bravo, charlie, _ = await five(where)
        await where.kill("delta")
        await founder.member.rotate()
        wall.skip(23 * HOUR_S)
        returned = await where.add("delta", peers=("founder",))
        with trio.fail_after(30.0):
            await returned.until_linked(founder, alpha, bravo, charlie)
        await trio.sleep(5.0)
        assert returned.member.membership.mesh.generation == 1


async def test_whoever_was_off_for_longer_is_told_what_to_do_and_an_invite_brings_it_back(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        founder, alpha, bravo, charlie, _ = await five(where)
        await where.kill("delta")
        await founder.member.rotate()
        wall.skip(25 * HOUR_S)
        returned = await where.add("delta", peers=("founder",))
        await trio.sleep(60.0)
        assert not returned.member.view().links
        with pytest.raises(HandshakeFailed, match=r"rotated more than a day ago.* needs a new invite"):
            await dial_as(returned, "founder:6375")
        await returned.member.join(founder.member.invite(INVITE).token)
        with trio.fail_after(90.0):
            await returned.until_linked(founder, alpha, bravo, charlie)


async def test_everybody_is_renewed_in_time(tmp_path: Path, autojump_clock: MockClock, wall: Wall) -> None:
    async with world(tmp_path) as where:
        nodes = await five(where)
        before = {node.name: node.member.membership_until for node in nodes}
        links = {node.name: dict(node.member.mesh.peers.links) for node in nodes}
        wall.skip(MEMBERSHIP_LIFETIME_S // 2 + HOUR_S)
        await trio.sleep(1500.0)
        for node in nodes:
            until, was = node.member.membership_until, before[node.name]
            assert until is not None and was is not None and until > was + 10 * DAY_S
            for other in nodes:
                # What others see of it in adverts is the new chain.
                shown = other.member.view().adverts[node.id].chain
                assert shown == node.member._papers.packed_chain
        assert {node.name: dict(node.member.mesh.peers.links) for node in nodes} == links


async def test_a_renewal_is_passed_on_by_a_neighbour_that_may_not_renew(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        named_only = {"mesh": {"dial_learned": False}}
        founder = await where.add("founder", papers=Papers(root=True), settings=named_only)
        middle = await where.add("middle", peers=("founder",), papers=Papers(roles=PLAIN), settings=named_only)
        edge = await where.add(
            "edge", peers=("middle",), papers=Papers(roles=PLAIN), settings=named_only, listens=False
        )
        await edge.until_reachable({"middle", "founder"})
        assert founder.id not in edge.member.view().links and middle.id in edge.member.view().links
        before = edge.member.membership_until
        assert before is not None
        wall.skip(MEMBERSHIP_LIFETIME_S // 2 + HOUR_S)
        await trio.sleep(1500.0)
        after = edge.member.membership_until
        assert after is not None and after > before + 10 * DAY_S
        assert edge.member.roles(edge.id) == PLAIN


async def test_new_keys_of_running_links_come_with_the_new_secret_and_the_new_chains(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        nodes = await five(where, settings={"mesh": {"rekey_s": 600.0}})
        links = {node.name: dict(node.member.mesh.peers.links) for node in nodes}
        await nodes[0].member.rotate()
        wall.skip(MEMBERSHIP_LIFETIME_S // 2 + HOUR_S)
        await trio.sleep(3000.0)
        for node in nodes:
            assert dict(node.member.mesh.peers.links) == links[node.name]
            for other in nodes:
                if other is not node:
                    link = node.member.mesh.peers.links[other.id]
                    assert link.rekeyed and link.membership.chain == other.member.membership.chain


@pytest.mark.parametrize("keep", [False, True])
async def test_whom_a_revoked_node_invited_is_out_too_unless_kept(
    tmp_path: Path, autojump_clock: MockClock, keep: bool
) -> None:
    async with world(tmp_path) as where:
        founder = await where.add("founder", papers=Papers(root=True))
        inviter = await where.add("inviter", peers=("founder",))
        invited = await where.add("invited", peers=("founder",), papers=Papers(by="inviter"))
        other = await where.add("other", peers=("founder",))
        with trio.fail_after(10.0):
            await founder.until_linked(inviter, invited, other)
        assert founder.member.invited_by(invited.id) == inviter.id
        assert founder.member.invited_by(other.id) is None
        revoked = await founder.member.revoke(inviter.id, keep_invited=keep)
        assert revoked.also == (() if keep else ("invited",))
        await trio.sleep(60.0)
        linked = set(founder.member.view().links)
        assert linked == ({invited.id, other.id} if keep else {other.id})
        assert (invited.member.standing()["revoked"] is None) is keep
        assert inviter.member.standing()["revoked"] is not None


async def test_the_kept_are_renewed_by_others_and_stay(tmp_path: Path, autojump_clock: MockClock, wall: Wall) -> None:
    async with world(tmp_path) as where:
        founder = await where.add("founder", papers=Papers(root=True))
        inviter = await where.add("inviter", peers=("founder",))
        invited = await where.add("invited", peers=("founder",), papers=Papers(by="inviter"))
        with trio.fail_after(10.0):
            await founder.until_linked(inviter, invited)
        await founder.member.revoke(inviter.id, keep_invited=True)
        wall.skip(MEMBERSHIP_LIFETIME_S // 2 + HOUR_S)
        await trio.sleep(1500.0)
        assert len(invited.member.membership.chain) == 1
        assert founder.member.invited_by(invited.id) == inviter.id
        assert set(founder.member.view().links) == {invited.id}


async def test_a_member_that_may_invite_shuts_out_who_may_not_until_the_root_revokes_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        founder = await where.add("founder", papers=Papers(root=True))
        inviter = await where.add("inviter", peers=("founder",))
        plain = await where.add("plain", peers=("founder",), papers=Papers(roles=PLAIN))
        with trio.fail_after(10.0):
            await founder.until_linked(inviter, plain)
            await inviter.until_linked(founder, plain)
        await inviter.member.revoke(plain.id)
        await trio.sleep(5.0)
        assert set(founder.member.view().links) == {inviter.id}
        assert plain.member.standing()["revoked"] is not None
        await founder.member.revoke(inviter.id)
        # What it signed counts no more.
        with trio.fail_after(900.0):
            await founder.until_linked(plain)
        await trio.sleep(5.0)
        assert plain.member.standing()["revoked"] is None
        assert inviter.member.standing()["revoked"] is not None
        assert plain.member.membership.mesh.secrets(0)[0] == founder.member.membership.mesh.secrets(0)[0]
