"""Questions to be dialled, passed on over links between nodes in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import PeerFailed
from meshnode.mesh import dial_me, exchange
from meshnode.model import codec
from meshnode.model.ids import NodeId
from tests.mesh.few import Few, Node, few, node_id


async def chain(where: Few, *names: str) -> list[Node]:
    """Nodes in a row, each linked to the next and knowing that the last is that way."""
    nodes = [await where.add(name, full_mesh_nodes=0) for name in names]
    for near, far in pairwise(nodes):
        found = await near._connect((f"{far.name}:6375",), far.id)
        where.nursery.start_soon(near.peers.live, found)
        near.ways[nodes[-1].id] = far.id
    for number, node in enumerate(nodes):
        await node.until(*nodes[max(0, number - 1) : number], *nodes[number + 1 : number + 2])
    return nodes


async def test_a_peer_that_only_dials_out_is_asked_through_another_and_dials(autojump_clock: MockClock) -> None:
    async with few() as where:
        first, hub = await where.add("first"), await where.add("hub", full_mesh_nodes=0)
        inner = await where.add("inner", listens=False, peers=("hub:6375",), full_mesh_nodes=0)
        await inner.until(hub)
        first.know(hub, inner)
        first.ways[inner.id], hub.ways[inner.id] = hub.id, inner.id
        inner.know(first, hub)
        with trio.fail_after(30.0):
            await first.until(hub, inner)
        link = first.peers.link(inner.id)
        assert link is not None and not link.initiator
        assert inner.dialled == [("hub:6375",), ("first:6375",)]


async def test_a_question_crosses_eight_links_and_no_more(autojump_clock: MockClock) -> None:
    async with few() as where:
        nodes = await chain(where, *(f"n{number}" for number in range(9)))
        heard: list[NodeId] = []
        nodes[-1].peers.asked = heard.append  # type: ignore[method-assign]
        await nodes[0].dial_me.ask(nodes[-1].id)
        assert heard == [nodes[0].id]
    async with few() as where:
        nodes = await chain(where, *(f"n{number}" for number in range(10)))
        nodes[-1].peers.asked = heard.append  # type: ignore[method-assign]
        await nodes[0].dial_me.ask(nodes[-1].id)
        assert heard == [nodes[0].id]


async def test_questions_in_a_circle_end(autojump_clock: MockClock) -> None:
    async with few() as where:
        nodes = await chain(where, "a", "b", "c", "gone")
        nodes[2].ways[nodes[3].id] = nodes[0].id
        nodes[1].ways[nodes[3].id] = nodes[0].id
        assert await nodes[0].dial_me._pass(question(nodes[0].id, nodes[3].id), nodes[3].id) is not None


def question(origin: NodeId, target: NodeId, *path: NodeId, hops: int = 7) -> dial_me._Question:
    return dial_me._Question(bytes(origin), bytes(target), hops, tuple(bytes(node) for node in path))


async def test_a_peer_asks_for_itself_or_for_whoever_asked_it_and_for_nobody_else(autojump_clock: MockClock) -> None:
    async with few() as where:
        near, far = await chain(where, "near", "far")
        heard: list[NodeId] = []
        far.peers.asked = heard.append  # type: ignore[method-assign]
        link = near.peers.link(far.id)
        assert link is not None
        other = node_id("other")
        for wrong in (question(other, far.id), question(near.id, far.id, other)):
            with pytest.raises(PeerFailed, match="another sender"):
                await exchange.ask(link, dial_me.PATH, codec.encode(wrong), timeout_s=5.0)
        await exchange.ask(link, dial_me.PATH, codec.encode(question(other, far.id, near.id)), timeout_s=5.0)
        assert heard == [other]


async def test_a_peer_that_asks_too_often_is_refused_until_the_minute_is_over(autojump_clock: MockClock) -> None:
    async with few() as where:
        near, far = await chain(where, "near", "far")
        heard: list[NodeId] = []
        far.peers.asked = heard.append  # type: ignore[method-assign]
        for _ in range(25):
            await near.dial_me.ask(far.id)
        assert len(heard) == dial_me.PER_MINUTE
        await trio.sleep(60.0)
        await near.dial_me.ask(far.id)
        assert len(heard) == dial_me.PER_MINUTE + 1


async def test_what_is_no_question_harms_nothing(autojump_clock: MockClock) -> None:
    async with few() as where:
        near, far = await chain(where, "near", "far")
        link = near.peers.link(far.id)
        assert link is not None
        tall = codec.encode({"t": "dial-me", "origin": bytes(near.id), "target": bytes(far.id), "hops": 8, "path": ()})
        for bad in (b"", b"nonsense", b"x" * 5000, tall):
            with pytest.raises(Exception, match=r"cancelled|CBOR"):
                await exchange.ask(link, dial_me.PATH, bad, timeout_s=5.0)
        assert near.peers.link(far.id) is link and link.reason is None


async def test_without_a_way_nothing_is_sent_and_nothing_raised(autojump_clock: MockClock) -> None:
    async with few() as where:
        alone = await where.add("alone")
        await alone.dial_me.ask(node_id("far"))
        alone.ways[node_id("far")] = node_id("unlinked")
        await alone.dial_me.ask(node_id("far"))


async def test_who_asked_nothing_of_late_needs_no_memory(autojump_clock: MockClock) -> None:
    async with few() as where:
        alone = await where.add("alone")
        for number in range(100):
            alone.dial_me._rate(node_id(f"peer{number}")).take(trio.current_time())
            await trio.sleep(6.1)
        assert len(alone.dial_me._rates) < 3
