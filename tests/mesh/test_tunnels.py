"""Virtual links over relays: opened once for all who ask, kept while they are of use, and bounded at both ends."""

from __future__ import annotations

import secrets

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.errors import HandshakeFailed, LinkError
from meshnode.mesh import opening
from meshnode.mesh.opening import Opening
from meshnode.mesh.tunnels import SWEEP_S
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, Pipe, initiate
from tests.mesh.few import node_id
from tests.mesh.tunnelled import Tunnelled, Tunnelling, said, tunnelling
from tests.net import kit
from tests.net.kit import ask


async def test_a_virtual_link_is_a_link_like_any_other(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c, d = await where.row("abcd")
        life = await a.tunnels.link(d.id)
        assert life.link.peer == d.id and life.way == (a.id, b.id, c.id, d.id) and life.opened
        assert await said(life, b"hello") == b"hello"
        (served,) = d.tunnels.lives
        assert (served.link.peer, served.way, served.opened) == (a.id, life.way[::-1], False)
        assert [node.counts() for node in (a, b, c, d)] == [(1, 0), (0, 1), (0, 1), (1, 0)]
        # Its other end may ask over it as well.
        assert d.tunnels.find(a.id) is served
        assert await said(served, b"and back") == b"and back"


async def test_one_is_opened_for_all_who_ask_at_once_and_who_leaves_does_not_end_it(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        found = []

        async def get(scope: trio.CancelScope) -> None:
            with scope:
                found.append(await a.tunnels.link(c.id))

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(8)]
            for scope in scopes:
                nursery.start_soon(get, scope)
            await trio.lowlevel.checkpoint()
            # The first of all, for whom it is being opened.
            scopes[0].cancel()
        assert len(found) == 7 and len(set(map(id, found))) == 1
        assert b.tunnels.relay.carried == 1
        assert await a.tunnels.link(c.id) is found[0]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a, b, c: a.shut.update({c.id: "it broke the protocol"}), "it broke the protocol"),
        (lambda a, b, c: a.ways.clear(), "there is no way to"),
        (lambda a, b, c: setattr(b, "relays_not", "b relays nothing"), "b relays nothing"),
        (lambda a, b, c: b.roles.update({a.id: frozenset({"serve"})}), "lacks the role client"),
        (lambda a, b, c: c.roles.update({b.id: frozenset({"client"})}), "may not pass on what is others'"),
        (lambda a, b, c: c.shut.update({a.id: "a is shut out"}), "a is shut out"),
        (lambda a, b, c: c.out.update({a.id: "a is revoked"}), "refused this node"),
        (lambda a, b, c: a.out.update({c.id: "c is revoked"}), "c is revoked"),
    ],
    ids=[
        "unwelcome here", "no way", "a relay that does not", "no client", "no relay", "unwelcome there", "barred there",
        "barred here",
    ],
)  # fmt: skip
async def test_whoever_refuses_says_why_and_nothing_is_left_of_it(
    autojump_clock: MockClock, spoil: object, why: str
) -> None:
    async with tunnelling() as where:
        nodes = a, _, c = await where.row("abc")
        spoil(*nodes)  # type: ignore[operator]
        with pytest.raises(HandshakeFailed, match=why):
            await a.tunnels.link(c.id)
        await wait_all_tasks_blocked()
        assert [node.counts() for node in nodes] == [(0, 0)] * 3
        assert not a.tunnels._attempts and not len(c.tunnels._threshold)
        assert a.tunnels.find(c.id) is None


async def test_who_asks_once_the_membership_has_ended_is_told_so_and_does_not_wait(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        life = await a.tunnels.link(c.id)
        b.tunnels.serve = kit.no_answer  # type: ignore[method-assign]
        far = node_id("far")
        a.ways[far] = b.id
        told: list[str] = []

        async def wait() -> None:
            with pytest.raises(HandshakeFailed) as failed:
                await a.tunnels.link(far)
            told.append(str(failed.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            a.life.cancel()
        assert told == ["this node has left the mesh"]
        await wait_all_tasks_blocked()
        assert life.link.reason is not None and a.counts() == (0, 0)
        with trio.fail_after(1.0):
            for _ in range(2):
                with pytest.raises(HandshakeFailed, match="there is no way"):
                    await a.tunnels.link(c.id)


async def test_a_fault_of_ours_ends_one_opening_and_the_next_one_comes_about(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with tunnelling() as where:
        a, _, c = await where.row("abc")
        build = a.build_sealed

        def broken(found: Authenticated) -> Link:
            a.tunnels._build = build
            raise ValueError("a fault of ours")

        a.tunnels._build = broken
        with pytest.raises(HandshakeFailed, match="this end crashed: ValueError"):
            await a.tunnels.link(c.id)
        assert await said(await a.tunnels.link(c.id), b"hello") == b"hello"


# Who is at the other end.


async def test_who_answers_in_anothers_place_is_not_believed(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, _, c = await where.row("abc")
        c.door.responder = lambda: kit.responder(node_id("mallory"))  # type: ignore[method-assign]
        with pytest.raises(HandshakeFailed, match=f"answered where {c.id.short} was expected"):
            await a.tunnels.link(c.id)
        await wait_all_tasks_blocked()
        assert (a.counts(), c.counts()) == ((0, 0), (0, 0))


async def test_who_comes_in_anothers_name_is_refused_in_words(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, _, c = await where.row("abc")
        a.door.initiator = lambda: kit.initiator(node_id("mallory"))  # type: ignore[method-assign]
        with pytest.raises(HandshakeFailed, match=f"came through a tunnel of {a.id.short}"):
            await a.tunnels.link(c.id)
        assert c.counts() == (0, 0)


def an_opening(origin: NodeId, target: NodeId, *path: NodeId, hops_left: int = 2) -> Opening:
    return Opening(secrets.token_hex(8), origin, target, hops_left, path)


async def opened(link: Link, asked: Opening) -> LinkStream:
    stream, _ = await opening.ask(link, asked)
    return stream


async def test_openings_that_no_relay_sends_are_refused(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        link, far = b.peers.link(c.id), node_id("far")
        assert link is not None
        honest = an_opening(a.id, c.id, a.id, b.id)
        (await opened(link, honest)).reset()
        for asked, why in (
            (honest, "has been here before"),
            (an_opening(a.id, c.id, a.id, far), "does not end with the node that sent it"),
            (an_opening(a.id, far, a.id, c.id, b.id), "a loop"),
            (an_opening(far, c.id, far, a.id, b.id, hops_left=7), "out of bounds"),
        ):
            with pytest.raises(HandshakeFailed, match=why):
                await opened(link, asked)
        assert c.counts() == (0, 0)


# Bounds.


async def test_of_one_origin_no_more_run_than_may_however_many_shake_hands_at_once(autojump_clock: MockClock) -> None:
    """As an origin's own machine would that means no good: one opening after the other, none waited for."""
    async with tunnelling() as where:
        a, b, c = await where.row("abc", tunnels_per_origin=2)
        link = b.peers.link(c.id)
        assert link is not None
        ready, told, up = trio.Event(), [], []

        async def knock() -> None:
            stream = await opened(link, an_opening(a.id, c.id, a.id, b.id))
            await ready.wait()
            try:
                found = await initiate(Pipe(stream), a.door.initiator(), a.door.check, timeout_s=5.0)
                up.append(found)
                await nursery.start(a.build_sealed(found).run)
            except HandshakeFailed as error:
                told.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(knock)
            await wait_all_tasks_blocked()
            ready.set()
            await trio.sleep(1.0)
            assert len(c.tunnels.links) == len(up) == 2
            assert len(told) == 4 and all("as many tunnels of" in why for why in told)
            nursery.cancel_scope.cancel()


async def test_a_neighbour_that_ends_no_handshake_keeps_nobody_else_out(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, _, c = await where.row("abc", half_open=4, handshakes_per_s=1000)
        mallory = await where.node("mallory")
        link = await where.link(mallory, c)
        for origin in map(node_id, ("one", "two")):
            await opened(link, an_opening(origin, c.id, origin, mallory.id))
        for origin in map(node_id, ("three", "four", "five")):
            with pytest.raises(HandshakeFailed, match="as many handshakes under way as it takes"):
                await opened(link, an_opening(origin, c.id, origin, mallory.id))
        assert await said(await a.tunnels.link(c.id), b"hello") == b"hello"
        # A handshake that does not come about is over after its time.
        await trio.sleep(c.section.handshake_timeout_s + 1.0)
        assert len(c.tunnels._threshold) == 0
        (await opened(link, an_opening(node_id("late"), c.id, node_id("late"), mallory.id))).reset()


async def star(where: Tunnelling, rays: int, **settings: float) -> list[Tunnelled]:
    """A node, a relay, and others behind it."""
    hub, me = await where.node("hub"), await where.node("me", **settings)
    others = [await where.node(f"n{number}") for number in range(rays)]
    for node in (me, *others):
        await where.link(node, hub)
        me.ways[node.id] = hub.id
    return [me, hub, *others]


async def test_for_a_new_one_the_one_unused_longest_goes_and_never_one_in_use(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        me, _, one, two, three = await star(where, 3, tunnels_kept=2)
        first = await me.tunnels.link(one.id)
        used = await first.link.request(ask(), end=False)
        await me.tunnels.link(two.id)
        await me.tunnels.link(three.id)
        assert {link.peer for link in me.tunnels.links} == {one.id, three.id}
        third = await (await me.tunnels.link(three.id)).link.request(ask(), end=False)
        with pytest.raises(HandshakeFailed, match="2 tunnels of this node are in use"):
            await me.tunnels.link(two.id)
        for stream in (used, third):
            stream.reset()


# What is kept.


async def test_one_that_nobody_uses_ends_and_one_with_a_stream_does_not(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc", tunnel_idle_s=60.0)
        life = await a.tunnels.link(c.id)
        stream = await life.link.request(ask(), end=False)
        await trio.sleep(300.0)
        await stream.send(b"still here")
        assert await stream.receive_some() == b"still here"
        stream.reset()
        await trio.sleep(60.0 + 3 * SWEEP_S)
        assert [node.counts() for node in (a, b, c)] == [(0, 0)] * 3
        assert life.link.reason is not None


@pytest.mark.parametrize("end", ["here", "there"])
async def test_whoever_is_believed_no_more_loses_its_tunnel_at_once(autojump_clock: MockClock, end: str) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        life = await a.tunnels.link(c.id)
        stream = await life.link.request(ask(), end=False)
        node, other = (a, c) if end == "here" else (c, a)
        node.out[other.id] = "it was revoked"
        node.tunnels.review()
        with trio.fail_after(1.0), pytest.raises(LinkError):
            await stream.receive_some()
        await wait_all_tasks_blocked()
        assert [each.counts() for each in (a, b, c)] == [(0, 0)] * 3


async def test_who_is_shut_out_loses_its_tunnel_though_it_opened_it(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        life = await a.tunnels.link(c.id)
        await life.link.request(ask(), end=False)
        c.shut[a.id] = "it broke the protocol"
        await trio.sleep(2 * SWEEP_S)
        assert [each.counts() for each in (a, b, c)] == [(0, 0)] * 3


async def test_a_relay_that_is_leaving_gets_nothing_new_and_what_runs_goes_on(autojump_clock: MockClock) -> None:
    """Another way is found; the old tunnel ends when its streams have."""
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        other = await where.node("other")
        await where.link(a, other)
        await where.link(other, c)
        old = await a.tunnels.link(c.id)
        stream = await old.link.request(ask(), end=False)
        a.going.add(b.id)
        assert a.tunnels.find(c.id) is None
        a.ways[c.id] = other.id
        new = await a.tunnels.link(c.id)
        assert new.way == (a.id, other.id, c.id) and a.tunnels.find(c.id) is new
        await trio.sleep(2 * SWEEP_S)
        await stream.send(b"to the end")
        await stream.finish()
        assert await kit.read_all(stream) == b"to the end"
        await trio.sleep(2 * SWEEP_S)
        assert [life.way for life in a.tunnels.lives] == [new.way] and b.counts() == (0, 0)


async def test_a_peer_that_asks_for_no_more_streams_gets_another_tunnel(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, _, c = await where.row("abc")
        old = await a.tunnels.link(c.id)
        c.tunnels.goaway()
        await trio.sleep(0.1)
        assert a.tunnels.find(c.id) is None
        new = await a.tunnels.link(c.id)
        assert new is not old and await said(new, b"hello") == b"hello"


async def test_a_direct_link_takes_the_place_of_a_tunnel_that_nobody_uses(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, b, c = await where.row("abc")
        life = await a.tunnels.link(c.id)
        stream = await life.link.request(ask(), end=False)
        await where.link(a, c)
        await trio.sleep(2 * SWEEP_S)
        assert a.counts() == (1, 0)
        stream.reset()
        await trio.sleep(2 * SWEEP_S)
        assert [each.counts() for each in (a, b, c)] == [(0, 0)] * 3


async def test_of_two_that_were_opened_at_once_both_ends_keep_the_same(autojump_clock: MockClock) -> None:
    """The one that the lower id opened, as of links: else each would end the one that the other has chosen."""
    async with tunnelling() as where:
        nodes = a, _, c = await where.row("abc")
        first, other = sorted((a, c), key=lambda node: node.id)
        async with trio.open_nursery() as nursery:
            for node, target in ((a, c), (c, a)):
                nursery.start_soon(node.tunnels.link, target.id)
        assert [node.counts() for node in nodes] == [(2, 0), (0, 2), (2, 0)]
        await trio.sleep(60.0)
        assert [node.counts() for node in nodes] == [(1, 0), (0, 1), (1, 0)]
        ends = [node.tunnels.find(target.id) for node, target in ((first, other), (other, first))]
        assert [end.opened for end in ends if end is not None] == [True, False]
