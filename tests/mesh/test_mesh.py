"""One membership lived: what a node says of itself, what it sees, whom it drops, and how it goes."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import HandshakeFailed, LinkError, PeerFailed, SecretFileError
from meshnode.identity import Revocation, Role
from meshnode.keep.home import Home
from meshnode.mesh import exchange, mesh, outlook
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from tests.kit.world import Papers, ScriptedEngine, World, WorldNode, world
from tests.net.kit import ask, read_all

MODEL = "m"
ALONE = {"mesh": {"dial_learned": False}}


async def row(where: World, names: str = "abc", engine: ScriptedEngine | None = None) -> list[WorldNode]:
    """Each linked to the next alone; the first holds the root, the last has the engine."""
    nodes: list[WorldNode] = []
    for name in names:
        nodes.append(
            await where.add(
                name, peers=(nodes[-1].name,) if nodes else (), settings=ALONE, papers=Papers(root=not nodes),
                engine=(engine or ScriptedEngine(MODEL)) if name == names[-1] else None,
            )
        )  # fmt: skip
    for node in nodes:
        await node.until_reachable(set(names) - {node.name})
    return nodes


async def until(node: WorldNode, condition: object) -> None:
    with trio.fail_after(30.0):
        while not condition():  # type: ignore[operator]
            await node.member.mesh.changed.wait()


async def test_who_a_node_is_says_its_papers_whatever_it_is_told_to_say(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a, b, _ = await row(where)
        lie = Advert(b"x" * 32, b"y" * 32, 7, 7, 1, name="honest", owner="bob", host=b"elsewher", chain=b"z")
        a.member.mesh.describe(lie)
        await until(b, lambda: b.member.view().adverts[a.id].name == "honest")
        heard = b.member.view().adverts[a.id]
        papers = a.member._papers
        assert (heard.node, heard.mesh, heard.owner) == (a.id, where.mesh.id, "")
        assert (heard.chain, heard.host) == (papers.packed_chain, a.member.mesh.host)
        assert [bytes(neighbour.id) for neighbour in heard.neighbours] == [bytes(b.id)]


async def test_what_is_true_here_is_true_at_once_and_a_view_stays_the_same_until_something_is_new(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a, _, _ = await row(where)
        before, changed = a.member.view(), a.member.mesh.changed
        assert a.member.view() is before
        told = before.adverts[a.id]
        a.member.describe(msgspec.structs.replace(told, draining=True))
        assert changed.is_set()
        after = a.member.view()
        assert after is not before and after.version > before.version
        assert after.adverts[a.id].draining and not before.adverts[a.id].draining


async def test_a_change_of_papers_cuts_nothing_but_what_it_means_to_cut(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a = await where.add("a", papers=Papers(root=True))
        b, eve = [await where.add(name, peers=("a",)) for name in ("b", "eve")]
        await until(a, lambda: {b.id, eve.id} <= set(a.member.view().links))
        kept, cut = a.member.link(b.id), a.member.link(eve.id)
        assert kept is not None and cut is not None
        a.member.mesh.refresh()
        await trio.sleep(5.0)
        assert (kept.reason, cut.reason) == (None, None)
        a.member.mesh.post(where._issuer("").notice(Revocation(where.mesh.id, bytes(eve.id), int(time.time()))))
        # Here at once, before any task has run.
        assert eve.id not in a.member.view().adverts
        await trio.sleep(1.0)
        assert cut.reason is not None and kept.reason is None
        await until(b, lambda: eve.id not in b.member.view().adverts)


async def test_who_is_forgotten_is_gone_until_it_says_something_new(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, _, c = await row(where)
        # Until all round trips have been told.
        await trio.sleep(10.0)
        assert a.member.mesh.forget(c.id)
        assert c.id not in a.member.view().adverts and not a.member.mesh.forget(c.id)
        # What others still hold is not news.
        await trio.sleep(20.0)
        assert c.id not in a.member.view().adverts
        told = c.member.view().adverts[c.id]
        c.member.describe(msgspec.structs.replace(told, draining=True))
        await until(a, lambda: c.id in a.member.view().adverts)


async def test_who_leaves_says_so_to_everybody_and_takes_nothing_new(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, b, c = await row(where, engine=ScriptedEngine(MODEL, [5.0, b"data: [DONE]\n\n"]))
        await a.ask_whole(MODEL)
        link = b.member.link(c.id)
        assert link is not None and len(a.member.mesh.tunnels.links) == 1
        c.member.farewell()
        await trio.sleep(0.5)
        for node in (a, b):
            assert c.id not in node.member.view().adverts
        # Neither over the link nor over the tunnel: nobody waits for what would not come.
        for left in (link, *a.member.mesh.tunnels.links):
            assert left.draining
            with pytest.raises(LinkError):
                await left.request(ask(), b"one more")
        assert set(b.member.view().links) == {a.id}


async def test_a_node_that_is_shutting_down_passes_nothing_new_on_and_says_why(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a, b, c = await row(where)
        b.member.describe(msgspec.structs.replace(b.member.view().adverts[b.id], draining=True))
        # Asked before it could hear of that.
        with pytest.raises(HandshakeFailed, match="is shutting down"):
            await a.member.mesh.tunnels.link(c.id, first=b.id)


async def test_a_node_whose_owner_does_not_let_it_relay_passes_nothing_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a = await where.add("a", papers=Papers(root=True), settings=ALONE)
        b = await where.add("b", peers=("a",), settings={"mesh": {"dial_learned": False, "relay": False}})
        c = await where.add("c", peers=("b",), settings=ALONE)
        await b.until_reachable({"a", "c"})
        with pytest.raises(HandshakeFailed, match="does not relay"):
            await a.member.mesh.tunnels.link(c.id, first=b.id)


async def test_a_member_without_the_role_passes_nothing_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a = await where.add("a", papers=Papers(root=True), settings=ALONE)
        b = await where.add("b", peers=("a",), papers=Papers(roles=(Role.CLIENT, Role.SERVE)), settings=ALONE)
        c = await where.add("c", peers=("b",), settings=ALONE)
        await b.until_reachable({"a", "c"})
        with pytest.raises(HandshakeFailed, match="does not relay"):
            await a.member.mesh.tunnels.link(c.id, first=b.id)


async def test_who_is_out_of_the_mesh_links_with_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, b, c = await row(where)
        # It hears of it by itself, as if its neighbours had been away.
        c.member.mesh.post(where._issuer("").notice(Revocation(where.mesh.id, bytes(c.id), int(time.time()))))
        with pytest.raises(HandshakeFailed, match="this node links with nobody"):
            await c.member.mesh.tunnels.link(a.id)
        await trio.sleep(1.0)
        assert c.member.view().links == {} and a.id in b.member.view().links


async def test_a_door_that_is_handed_in_is_served_and_the_others_are_refused_in_words(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        a, b, _ = await row(where)
        link = a.member.link(b.id)
        assert link is not None
        with pytest.raises(PeerFailed, match="another version of meshnode"):
            await exchange.ask(link, "/meshnode/nothing", b"", timeout_s=5.0)

        async def door(link: Link, stream: LinkStream) -> None:
            await exchange.answer(stream, (await read_all(stream)).upper())

        b.member.mesh._reception._doors["/meshnode/test"] = door  # type: ignore[index]
        assert await exchange.ask(link, "/meshnode/test", b"loud", timeout_s=5.0) == b"LOUD"


async def test_a_round_trip_of_another_class_is_news_and_jitter_within_one_is_none(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as where:
        a, b, _ = await row(where)
        took = [0.015]
        for module in (mesh, outlook):
            monkeypatch.setattr(module, "round_trip", lambda link: took[0])

        def told() -> int:
            return next(n.rtt_ms for n in b.member.view().adverts[a.id].neighbours)

        await trio.sleep(5.0)
        assert told() == 20
        order = b.member.view().adverts[a.id].order
        took[0] = 0.019
        await trio.sleep(10.0)
        assert b.member.view().adverts[a.id].order == order
        took[0] = 0.090
        await trio.sleep(5.0)
        assert told() == 100


async def test_a_count_of_starts_that_cannot_be_kept_is_told_and_silences_nobody(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others show a node an advert of its own that it does not know: it counts on from there."""

    def full(*_: object) -> None:
        raise SecretFileError("cannot write: no space left")

    monkeypatch.setattr(Home, "keep_incarnation", full)
    async with world(tmp_path) as where:
        a, b, _ = await row(where)
        a.member.mesh._counted(99)
        assert "could not be kept" in capsys.readouterr().out
        told = a.member.view().adverts[a.id]
        a.member.describe(msgspec.structs.replace(told, draining=True))
        await until(b, lambda: b.member.view().adverts[a.id].draining)


async def test_a_stranger_is_nobodys_next_hop(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, _, _ = await row(where)
        with pytest.raises(HandshakeFailed, match="there is no way"):
            await a.member.mesh.tunnels.link(NodeId(b"x" * 32))
