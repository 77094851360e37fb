"""The shell of the gossip machine over links that are told what to carry: what it does with verdicts on neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.gossip import Facts, Gossip
from meshnode.gossip.messages import Adverts, Carried, encode_message
from meshnode.mesh.gossiper import Gossiper, Verdicts
from meshnode.model.advert import SignedAdvert, pack
from meshnode.model.ids import NodeId
from tests.gossip.world import describe, fake_judge, fake_sign, node_id

A, B = node_id(1), node_id(2)
SECTION = GossipSection(anti_entropy_s=1000.0)


class Stream:
    """One direction of gossip. While `stalled`, what is sent does not arrive."""

    def __init__(self) -> None:
        self.put, self.got = trio.open_memory_channel[bytes](1000)
        self.stalled = False

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not self.stalled:
            self.put.send_nowait(data)

    async def receive_some(self) -> bytes:
        return await self.got.receive()


class Link:
    """What the gossiper needs of a link."""

    def __init__(self, peer: NodeId) -> None:
        self.peer, self.stream, self.heard_at = peer, Stream(), None

    async def request(self, headers: Any, *, end: bool) -> Stream:
        await trio.lowlevel.checkpoint()
        return self.stream


class Node:
    """A gossiper and all that it said."""

    def __init__(self, me: NodeId, section: GossipSection = SECTION) -> None:
        self.told: list[tuple[Any, ...]] = []

        def note(kind: str) -> Callable[..., None]:
            return lambda *said: self.told.append((kind, *said))

        machine = Gossip(
            me,
            section,
            fake_judge,
            lambda body: fake_sign(me, body),
            random.Random(me),
            1,
            lambda: Facts(1, me[0] % 7, 0, 9),
        )
        self.me = me
        verdicts = Verdicts(note("dead"), note("convicted"), note("reported"), note("suspects"), counted=self._keep)
        self.gossiper = Gossiper(
            machine, note("changed"), note("breached"), verdicts, heard_at=lambda link: link.heard_at
        )
        self.gossiper.describe(describe(me))

    def _keep(self, incarnation: int) -> None:
        waiting = sum(len(outbox.messages) for outbox in self.gossiper._outboxes.values())
        self.told.append(("counted", incarnation, waiting))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [said[1:] for said in self.told if said[0] == kind]


@asynccontextmanager
async def linked(one: Node, other: Node) -> Any:
    there, back = Link(other.me), Link(one.me)
    async with trio.open_nursery() as nursery:
        for node, out, into in ((one, there, back), (other, back, there)):
            await nursery.start(node.gossiper.run)
            nursery.start_soon(node.gossiper.carry, out)
            nursery.start_soon(node.gossiper.receive, out, into.stream)
        yield there, back
        nursery.cancel_scope.cancel()


async def test_load_is_reported_both_ways_and_nobody_is_doubted(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other):
        await trio.sleep(20.0)
        assert (B, Facts(1, B[0] % 7, 0, 9)) in one.of("reported")
        assert (A, Facts(1, A[0] % 7, 0, 9)) in other.of("reported")
        assert 15 <= len(one.of("reported")) <= 30
        assert one.gossiper.suspected == other.gossiper.suspected == frozenset()
        assert one.of("dead") == one.of("suspects") == one.of("breached") == []


async def test_a_neighbour_that_falls_silent_is_doubted_then_given_up(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other) as (_, back):
        await trio.sleep(5.0)
        back.stream.stalled = True
        await trio.sleep(2.1)
        assert one.gossiper.suspected == {B}
        assert len(one.of("suspects")) == 1
        assert one.of("dead") == []
        await trio.sleep(4.0)
        [(peer, reason)] = one.of("dead")
        assert peer == B
        assert "no answer for" in reason


async def test_a_neighbour_that_speaks_again_is_cleared(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other) as (_, back):
        await trio.sleep(5.0)
        back.stream.stalled = True
        await trio.sleep(2.5)
        back.stream.stalled = False
        await trio.sleep(10.0)
        assert one.gossiper.suspected == frozenset()
        assert len(one.of("suspects")) == 2
        assert one.of("dead") == []


async def test_bytes_of_other_streams_on_the_link_are_life(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other) as (there, back):
        await trio.sleep(5.0)
        back.stream.stalled = True
        for _ in range(100):
            there.heard_at = trio.current_time()
            await trio.sleep(0.2)
        assert one.of("dead") == one.of("suspects") == []


async def test_a_convict_is_told_with_the_time_it_is_to_be_shut_out(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other) as (_, back):
        await trio.sleep(1.0)
        # A second node with B's key, which says something else under the same order.
        body = pack(replace(one.gossiper.adverts()[B], name="clone"))
        frame = encode_message(Adverts((Carried(SignedAdvert(body, fake_sign(B, body)), 90),)))
        back.stream.put.send_nowait(len(frame).to_bytes(4, "big") + frame)
        await trio.sleep(0.1)
        [(node, for_s)] = one.of("convicted")
        assert node == B
        assert 3590.0 < for_s <= 3600.0
        assert other.of("convicted") == [], "it is B itself that is accused there"


async def test_a_later_incarnation_is_kept_before_an_advert_bears_it(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(A), Node(B)
    async with linked(one, other) as (_, back):
        await trio.sleep(1.0)
        earlier = replace(describe(A, "earlier"), incarnation=7, sequence=3, lifetime_s=180)
        body = pack(earlier)
        frame = encode_message(Adverts((Carried(SignedAdvert(body, fake_sign(A, body)), 90),)))
        await back.stream.send(len(frame).to_bytes(4, "big") + frame)
        await trio.sleep(1.0)
        assert one.of("counted") == [(8, 0)], "when it was kept nothing had been said"
        assert other.gossiper.adverts()[A].incarnation == 8
