"""Sealed requests through relays, whole nodes in virtual time: what relays can read, and what becomes of tunnels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import HandshakeFailed, LinkError, PeerFailed
from meshnode.mesh import exchange, opening
from meshnode.mesh.opening import Opening
from meshnode.model.job import Label, Privacy
from meshnode.net import LinkStream, Pipe, initiate
from tests.kit.world import EVENT, LAST, Papers, ScriptedEngine, World, WorldNode, world

MODEL = "m"
CANARY = b"canary-7f3a9c"
SECRET_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % CANARY


async def row(where: World, names: str, engine: ScriptedEngine | None = None, **settings: Any) -> list[WorldNode]:
    """Nodes in a row, each linked with its neighbours only; the last one serves, the first holds the mesh's root."""
    nodes: list[WorldNode] = []
    for name in names:
        nodes.append(
            await where.add(
                name,
                peers=(nodes[-1].name,) if nodes else (),
                engine=(engine or ScriptedEngine(MODEL)) if name == names[-1] else None,
                settings={"mesh": {"dial_learned": False, **settings}},
                papers=Papers(root=not nodes),
            )
        )
    await nodes[0].until_reachable(set(names[1:]), model_of=names[-1])
    await nodes[-1].until_reachable(set(names[:-1]))
    return nodes


def tunnels(node: WorldNode) -> tuple[int, int]:
    """Virtual links of a node, and tunnels of others that it carries."""
    found = node.member.mesh.tunnels
    return len(found.links), len(found.relay)


class Recorder:
    """What came to each node on streams of its links, as that node can read it; by node name."""

    def __init__(self, where: World) -> None:
        self.where = where
        self.direct: dict[str, bytearray] = defaultdict(bytearray)
        self.sealed: dict[str, bytearray] = defaultdict(bytearray)

    def note(self, stream: LinkStream, data: bytes) -> None:
        for name, node in self.where.nodes.items():
            if stream._link in node.member.mesh.peers.links.values():
                self.direct[name] += data
            elif stream._link in node.member.mesh.tunnels.links:
                self.sealed[name] += data


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    found: list[Recorder] = []
    arrived = LinkStream.arrived

    def note(stream: LinkStream, data: bytes, flow: int) -> None:
        for recorder in found:
            recorder.note(stream, data)
        arrived(stream, data, flow)

    monkeypatch.setattr(LinkStream, "arrived", note)
    return found


async def test_relays_carry_what_they_cannot_read(
    tmp_path: Path, autojump_clock: MockClock, recorders: list[Recorder]
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [SECRET_EVENT, 1.0, SECRET_EVENT, LAST])
        a, b, c, d = await row(where, "abcd", engine)
        recorder = Recorder(where)
        recorders.append(recorder)
        answer, body = await a.ask_whole(MODEL, text=CANARY.decode())
        assert body == SECRET_EVENT + SECRET_EVENT + LAST
        assert answer.headers["x-meshnode-path"] == "a > b > c > d"
        assert answer.headers["x-meshnode-privacy"] == "sealed"
        assert answer.headers["x-meshnode-node"] == "d"
        assert [tunnels(node) for node in (a, b, c, d)] == [(1, 0), (0, 1), (0, 1), (1, 0)]
        for relay in "bc":
            assert len(recorder.direct[relay]) > len(body)
            assert CANARY not in recorder.direct[relay]
            assert not recorder.sealed[relay]
        # The ends read it, on their virtual links only.
        for end in "ad":
            assert CANARY in recorder.sealed[end]
            assert CANARY not in recorder.direct[end]


async def test_an_open_request_can_be_read_by_its_relays(
    tmp_path: Path, autojump_clock: MockClock, recorders: list[Recorder]
) -> None:
    async with world(tmp_path) as where:
        a, b, _ = await row(where, "abc", ScriptedEngine(MODEL, [SECRET_EVENT, LAST]), relay_class="open")
        recorder = Recorder(where)
        recorders.append(recorder)
        answer, _ = await a.ask_whole(MODEL, text=CANARY.decode())
        assert answer.headers["x-meshnode-privacy"] == "open"
        assert answer.headers["x-meshnode-path"] == "a > b > c"
        assert CANARY in recorder.direct["b"]
        assert tunnels(b) == (0, 0)


async def test_the_requests_own_word_goes_before_the_configuration(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, b, _ = await row(where, "abc")
        for privacy, said in ((Privacy.OPEN, "open"), (Privacy.SEALED, "sealed"), (None, "sealed")):
            answer = await a.dispatcher.dispatch(a.job(MODEL, privacy=privacy))
            assert answer.headers["x-meshnode-privacy"] == said
            await answer.aclose()
        near = await b.ask(MODEL)
        assert near.headers["x-meshnode-privacy"] == "direct"
        await near.aclose()


async def test_requests_share_one_tunnel_and_each_opens_at_most_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1.0, LAST])
        a, b, c = await row(where, "abc", engine)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(a.ask_whole, MODEL)
        assert engine.served == 10
        assert (tunnels(a), tunnels(b), tunnels(c)) == ((1, 0), (0, 1), (1, 0))
        links = [node.member.mesh.tunnels.links[0] for node in (a, c)]
        assert not any(link.streams for link in links)


async def test_a_sealed_peer_is_no_neighbour(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, b, c = await row(where, "abc")
        await a.ask_whole(MODEL)
        await trio.sleep(2)
        assert set(a.member.view().links) == {b.id}
        neighbours = a.member.view().adverts[c.id].neighbours
        assert {neighbour.id for neighbour in neighbours} == {bytes(b.id)}
        (link,) = a.member.mesh.tunnels.links
        for path in ("/meshnode/gossip", "/meshnode/notices", "/meshnode/tunnel"):
            with pytest.raises(PeerFailed, match="for jobs"):
                await exchange.ask(link, path, b"", timeout_s=5)
        assert link.reason is None


async def test_either_end_may_ask_over_the_tunnel(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine("other")
        a = await where.add("a", engine=engine, settings={"mesh": {"dial_learned": False}})
        b = await where.add("b", peers=("a",), settings={"mesh": {"dial_learned": False}})
        c = await where.add("c", peers=("b",), engine=ScriptedEngine(MODEL), settings={"mesh": {"dial_learned": False}})
        await a.until_reachable({"b", "c"}, model_of="c")
        await c.until_reachable({"a", "b"}, model_of="a")
        await a.ask_whole(MODEL)
        answer, _ = await c.ask_whole("other")
        assert answer.headers["x-meshnode-path"] == "c > b > a"
        assert (tunnels(a), tunnels(b), tunnels(c)) == ((1, 0), (0, 1), (1, 0))


async def test_when_both_ends_open_at_once_both_requests_come_through(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        settings = {"mesh": {"dial_learned": False}}
        a = await where.add("a", engine=ScriptedEngine("other", [1.0, EVENT, LAST]), settings=settings)
        await where.add("b", peers=("a",), settings=settings)
        c = await where.add("c", peers=("b",), engine=ScriptedEngine(MODEL, [1.0, EVENT, LAST]), settings=settings)
        await a.until_reachable({"b", "c"}, model_of="c")
        await c.until_reachable({"a", "b"}, model_of="a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.ask_whole, MODEL)
            nursery.start_soon(c.ask_whole, "other")
        await a.ask_whole(MODEL)
        await trio.sleep(1200)
        assert (tunnels(a), tunnels(c)) == ((0, 0), (0, 0))


async def test_a_relay_that_dies_mid_stream_ends_the_answer_honestly(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1000.0, LAST])
        a, _, c, d = await row(where, "abcd", engine)
        answer = await a.ask(MODEL)
        assert await answer.__anext__() == EVENT
        await where.kill("b")
        with pytest.raises(PeerFailed, match="cut"):
            await answer.__anext__()
        with trio.fail_after(2):
            await engine.until(running=0)
        await trio.testing.wait_all_tasks_blocked()
        assert [tunnels(node) for node in (a, c, d)] == [(0, 0)] * 3


async def test_a_far_relay_that_dies_before_the_first_byte_is_gone_around(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """a knows only b; behind it, c and e both lead to d."""
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [5.0, EVENT, LAST])
        settings = {"mesh": {"dial_learned": False}}
        a = await where.add("a", settings=settings)
        await where.add("b", peers=("a",), settings=settings)
        for name in "ce":
            await where.add(name, peers=("b",), settings=settings)
        await where.add("d", peers=("c", "e"), engine=engine, settings=settings)
        await a.until_reachable(set("bcde"), model_of="d")
        paths: list[str] = []

        async def ask() -> None:
            answer, body = await a.ask_whole(MODEL)
            assert body == EVENT + LAST
            paths.append(answer.headers["x-meshnode-path"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await engine.until_busy()
            relay = next(name for name in "ce" if tunnels(where.nodes[name])[1])
            await where.kill(relay)
        (other,) = set("ce") - {relay}
        assert paths == [f"a > b > {other} > d"]
        assert (engine.served, engine.cut) == (2, 1)


async def test_a_direct_link_replaces_the_tunnel_once_its_streams_have_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 60.0, LAST])
        await where.add("b")
        c = await where.add("c", peers=("b",), engine=engine)
        # As behind a wall: nobody dials c, and a cannot be dialled.
        wall = where.net._listeners.pop("c")
        a = await where.add("a", peers=("b",), listens=False)
        await a.until_reachable({"b", "c"}, model_of="c")
        answer = await a.ask(MODEL, timeout_s=600.0)
        assert answer.headers["x-meshnode-privacy"] == "sealed"
        where.net._listeners["c"] = wall
        a.member.mesh.peers.redial("the wall is gone")
        while a.member.link(c.id) is None:
            await a.member.mesh.changed.wait()
        await trio.sleep(20)
        assert tunnels(a) == (1, 0)
        direct = await a.ask(MODEL)
        assert direct.headers["x-meshnode-privacy"] == "direct"
        assert b"".join([chunk async for chunk in answer]).endswith(LAST)
        await trio.sleep(10)
        assert (tunnels(a), tunnels(c)) == ((0, 0), (0, 0))
        await direct.aclose()


async def test_an_unused_tunnel_ends_everywhere(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        nodes = a, _, _ = await row(where, "abc", tunnel_idle_s=60.0)
        for _ in range(3):
            await a.ask_whole(MODEL)
            await trio.sleep(50)
            assert [tunnels(node) for node in nodes] == [(1, 0), (0, 1), (1, 0)]
        await trio.sleep(30)
        assert [tunnels(node) for node in nodes] == [(0, 0)] * 3
        await a.ask_whole(MODEL)


async def test_a_relay_takes_as_many_as_it_says_and_refuses_in_words(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        settings = {"mesh": {"dial_learned": False, "tunnels": 4, "tunnels_per_origin": 1}}
        relay = await where.add("relay", settings=settings)
        names = ("one", "two", "three")
        engines = [ScriptedEngine(f"m-{name}") for name in names]
        servers = [
            await where.add(name, peers=("relay",), engine=engine, settings=settings)
            for name, engine in zip(names, engines, strict=True)
        ]
        one = servers[0]
        await one.until_reachable({"relay", "two", "three"}, model_of="three")
        await one.ask_whole("m-two")
        with pytest.raises(PeerFailed, match="as many tunnels of"):
            await one.ask("m-three")
        assert tunnels(relay) == (0, 1)


async def test_of_too_many_tunnels_the_one_unused_longest_goes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        settings = {"mesh": {"dial_learned": False, "tunnels_kept": 2}}
        relay = await where.add("relay", settings=settings)
        for name in ("one", "two", "three"):
            await where.add(name, peers=("relay",), engine=ScriptedEngine(f"m-{name}"), settings=settings)
        a = await where.add("a", peers=("relay",), settings=settings)
        await a.until_reachable({"relay", "one", "two", "three"}, model_of="three")
        for model in ("m-one", "m-two", "m-one", "m-three"):
            await a.ask_whole(model)
            await trio.sleep(1)
        kept = {where.nodes[name].id for name in ("one", "three")}
        assert {link.peer for link in a.member.mesh.tunnels.links} == kept
        assert tunnels(relay) == (0, 2)


async def test_an_unread_answer_in_a_tunnel_stops_no_other(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [b"x" * (1 << 20), LAST])
        a, b, _ = await row(where, "abc", engine)
        unread = await a.ask(MODEL)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            _, body = await a.ask_whole(MODEL)
        assert len(body) == (1 << 20) + len(LAST)
        assert b.member.link(a.id).mux.unread + b.member.link(a.id).mux.queued < 1 << 20  # type: ignore[union-attr]
        assert len(b"".join([chunk async for chunk in unread])) == len(body)


async def test_a_client_that_leaves_frees_the_engine_and_the_tunnel_stays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1000.0, LAST])
        a, b, _ = await row(where, "abc", engine)
        answer = await a.ask(MODEL)
        await answer.aclose()
        with trio.fail_after(1):
            await engine.until(running=0)
        assert engine.cut == 1
        with trio.move_on_after(0.5):
            # Before the first byte, and while the tunnel is being opened.
            await a.ask(MODEL)
        engine.script = [EVENT, LAST]
        await a.ask_whole(MODEL)
        assert (tunnels(a), tunnels(b)) == ((1, 0), (0, 1))


async def test_leaving_while_a_tunnel_is_opened_leaves_it_to_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, _, c = await row(where, "abc")
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.member.mesh.tunnels.link(c.id)
        await a.ask_whole(MODEL)
        assert tunnels(a) == (1, 0)


async def test_a_revoked_nodes_tunnels_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 1000.0, LAST])
        a, b, c, d = await row(where, "abcd", engine)
        answer = await a.ask(MODEL)
        await a.member.revoke(d.id)
        with trio.fail_after(1), pytest.raises(PeerFailed):
            async for _ in answer:
                pass
        with trio.fail_after(5):
            await engine.until(running=0)
            for relay in (b, c):
                await relay.member.mesh.tunnels.relay.drained()
        await trio.testing.wait_all_tasks_blocked()
        assert tunnels(d) == (0, 0)
        with pytest.raises(HandshakeFailed):
            await a.member.mesh.tunnels.link(d.id, b.id)


async def test_a_peer_that_is_shut_out_loses_its_tunnel(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, _, c = await row(where, "abc")
        await a.ask_whole(MODEL)
        a.member.mesh.peers.breached(c.id, "said two things at once")
        await trio.sleep(6)
        assert (tunnels(a), tunnels(c)) == ((0, 0), (0, 0))
        with pytest.raises(HandshakeFailed, match="shut out"):
            await a.member.mesh.tunnels.link(c.id)


async def test_a_relay_that_shuts_down_is_left_by_tunnels_as_their_streams_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 20.0, LAST])
        a, b, _ = await row(where, "abc", engine)
        answer = await a.ask(MODEL)
        drain(b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.member.mesh.tunnels.relay.drained)
            await trio.sleep(10)
            assert tunnels(b) == (0, 1)
            assert b"".join([chunk async for chunk in answer]) == EVENT + LAST
            nursery.cancel_scope.deadline = trio.current_time() + 10
        assert not nursery.cancel_scope.cancelled_caught
        assert (tunnels(a), tunnels(b)) == ((0, 0), (0, 0))


def drain(node: WorldNode) -> None:
    advert = node.member.view().adverts[node.id]
    node.member.describe(msgspec.structs.replace(advert, draining=True))


# What relays and servers refuse.


async def ask_by_hand(sender: WorldNode, to: WorldNode, **changes: Any) -> None:
    """An opening as `sender` would write it, but for `changes`."""
    usual = {"id": "t1", "origin": sender.id, "target": to.id, "hops_left": 2, "path": (sender.id,)}
    link = sender.member.link(to.id)
    assert link is not None
    stream, _ = await opening.ask(link, Opening(**(usual | changes)))
    stream.reset()


async def test_openings_that_break_the_rules_are_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, b, c = await row(where, "abc")
        stranger = type(a.id)(b"s" * 32)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"path": (a.id, c.id)}, "does not end with the node that sent it"),
            ({"path": (a.id, b.id, a.id)}, "a loop"),
            ({"origin": stranger, "path": (stranger, a.id)}, "lacks the role client"),
            ({"path": (a.id, stranger, a.id)}, "lacks the role relay"),
            ({"target": stranger}, "knows no way"),
            ({"target": c.id, "hops_left": 0}, "knows no way"),
            ({"target": c.id, "hops_left": 7, "path": (a.id,) * 3}, "out of bounds"),
            ({"id": "x" * 65}, "out of bounds"),
        ]
        for number, (changes, words) in enumerate(cases):
            with pytest.raises(HandshakeFailed, match=words):
                await ask_by_hand(a, b, **({"id": f"t{number}"} | changes))
        await ask_by_hand(a, b, id="twice", target=c.id)
        with pytest.raises(HandshakeFailed, match="been here before"):
            await ask_by_hand(a, b, id="twice", target=c.id)
        assert [tunnels(node) for node in (a, b, c)] == [(0, 0)] * 3


@pytest.mark.parametrize("how", ["configuration", "certificate", "draining"])
async def test_who_does_not_relay_carries_no_tunnel(tmp_path: Path, autojump_clock: MockClock, how: str) -> None:
    async with world(tmp_path) as where:
        quiet = {"mesh": {"dial_learned": False, "relay": how != "configuration"}}
        roles = ("client", "serve") if how == "certificate" else None
        b = await where.add("b", settings=quiet, papers=Papers(roles=roles))  # type: ignore[arg-type]
        settings = {"mesh": {"dial_learned": False}}
        a = await where.add("a", peers=("b",), settings=settings)
        c = await where.add("c", peers=("b",), settings=settings)
        await c.until_linked(b)
        await a.until_linked(b)
        if how == "draining":
            drain(b)
        with pytest.raises(HandshakeFailed, match="shutting down" if how == "draining" else "does not relay"):
            await ask_by_hand(a, b, target=c.id)


async def test_a_tunnel_that_brings_another_than_it_names_is_closed(tmp_path: Path, autojump_clock: MockClock) -> None:
    """b opens in the name of a; its handshake shows who it is."""
    async with world(tmp_path) as where:
        a, b, c = await row(where, "abc")
        link = b.member.link(c.id)
        assert link is not None
        stream, _ = await opening.ask(link, Opening("t", a.id, c.id, 2, (a.id, b.id)))
        door = b.member.mesh._standing.door
        with pytest.raises(LinkError):
            found = await initiate(Pipe(stream), door.initiator(), door.check, timeout_s=5)
            await found.stream.receive_some()
            raise HandshakeFailed("the server closed it, after its side of the handshake")
        await trio.testing.wait_all_tasks_blocked()
        assert tunnels(c) == (0, 0)


async def test_what_is_sensitive_stays_here(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        a, _, _ = await row(where, "abc")
        with pytest.raises(Exception, match="sensitive"):
            await a.dispatcher.dispatch(a.job(MODEL, label=Label.SENSITIVE, privacy=Privacy.OPEN))
