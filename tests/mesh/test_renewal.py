"""Renewal over links: who asks when, who answers, and what is said where it cannot be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import PeerFailed
from meshnode.identity import MEMBERSHIP_LIFETIME_S, NodeKey, Role, ask_renewal
from meshnode.mesh import renewal
from meshnode.mesh.exchange import ask
from tests.kit.world import Papers, Wall, World, WorldNode, world

PLAIN = frozenset(Role) - {Role.INVITE}
LATE_S = MEMBERSHIP_LIFETIME_S // 2 + 3600


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


async def pair(where: World, **papers: object) -> tuple[WorldNode, WorldNode]:
    studio = await where.add("studio", papers=Papers(root=True))
    laptop = await where.add("laptop", peers=("studio",), papers=Papers(**papers))  # type: ignore[arg-type]
    with trio.fail_after(10.0):
        await studio.until_reachable({"laptop"})
        await laptop.until_reachable({"studio"})
    return studio, laptop


async def question(frm: WorldNode, to: WorldNode, data: bytes) -> bytes:
    link = frm.member.link(to.id)
    assert link is not None
    return await ask(link, renewal.PATH, data, timeout_s=5.0)


async def test_nobody_asks_before_half_the_time_is_over(tmp_path: Path, autojump_clock: MockClock, wall: Wall) -> None:
    async with world(tmp_path) as where:
        _, laptop = await pair(where)
        before = laptop.member.membership
        wall.skip(MEMBERSHIP_LIFETIME_S // 2 - 7200)
        await trio.sleep(1500.0)
        assert laptop.member.membership == before


async def test_the_holder_of_the_root_renews_itself_and_keeps_it(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        studio = await where.add("studio", papers=Papers(root=True))
        before = studio.member.membership_until
        wall.skip(LATE_S)
        await trio.sleep(120.0)
        until = studio.member.membership_until
        assert until is not None and before is not None and until > before
        kept = studio.home.membership(studio.home.node_key())
        assert kept == studio.member.membership and kept is not None and kept.root_seed is not None


async def test_a_renewed_chain_is_kept_and_survives_a_restart(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        _, laptop = await pair(where, roles=PLAIN)
        wall.skip(LATE_S)
        await trio.sleep(1500.0)
        chain = laptop.member.membership.chain
        await where.kill("laptop")
        again = await where.add("laptop", peers=("studio",))
        assert again.member.membership.chain == chain


async def test_without_anybody_who_can_it_asks_again_until_there_is_one(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    async with world(tmp_path) as where:
        _, laptop = await pair(where, roles=PLAIN)
        await where.kill("studio")
        before = laptop.member.membership_until
        wall.skip(LATE_S)
        await trio.sleep(3600.0)
        assert laptop.member.membership_until == before
        await where.add("studio", peers=("laptop",))
        await trio.sleep(1500.0)
        after = laptop.member.membership_until
        assert after is not None and before is not None and after > before


async def test_refusals_are_told_in_words(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where, roles=PLAIN)
        now, key, chain = int(time.time()), laptop.home.node_key(), laptop.member.membership.chain
        for request, words in (
            (b"", "cannot be read"),
            (b"nonsense", "cannot be read"),
            (ask_renewal(key, chain, now - 3600), "360[01] s old"),
            (ask_renewal(NodeKey.generate(), chain, now), "another node"),
        ):
            with pytest.raises(PeerFailed, match=words):
                await question(laptop, studio, b"\x01" + request)
        with pytest.raises(PeerFailed, match="may not invite"):
            await question(studio, laptop, b"\x00" + ask_renewal(key, chain, now))


async def test_only_so_many_are_in_hand_at_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "AT_ONCE", 1)
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        link = laptop.member.link(studio.id)
        assert link is not None
        headers = [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", renewal.PATH)]
        unfinished = await link.request(headers, end=False)
        await trio.sleep(1.0)
        with pytest.raises(PeerFailed, match="busy"):
            await question(laptop, studio, b"\x01")
        unfinished.reset()
        await trio.sleep(1.0)
        with pytest.raises(PeerFailed, match="cannot be read"):
            await question(laptop, studio, b"\x01")
        # One that asks for ever holds no place for ever.
        await link.request(headers, end=False)
        await trio.sleep(2 * renewal.ANSWER_S + 1.0)
        with pytest.raises(PeerFailed, match="cannot be read"):
            await question(laptop, studio, b"\x01")


async def test_who_is_out_asks_nobody(tmp_path: Path, autojump_clock: MockClock, wall: Wall) -> None:
    async with world(tmp_path) as where:
        studio, laptop = await pair(where)
        await studio.member.revoke(laptop.id)
        await trio.sleep(5.0)
        wall.skip(LATE_S)
        assert not laptop.member.mesh._renewal.due()


async def test_a_membership_made_while_the_clock_was_ahead_is_made_anew(
    tmp_path: Path, autojump_clock: MockClock, wall: Wall
) -> None:
    """A machine whose clock began years ahead founded a mesh: nobody believes its certificate for years."""
    async with world(tmp_path) as where:
        wall.skip(10 * MEMBERSHIP_LIFETIME_S)
        studio = await where.add("studio", papers=Papers(root=True))
        wall.skip(-10 * MEMBERSHIP_LIFETIME_S)
        await trio.sleep(120.0)
        until = studio.member.membership_until
        assert until is not None and until <= time.time() + MEMBERSHIP_LIFETIME_S
