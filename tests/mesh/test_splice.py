"""A relay's part of a tunnel: both directions to their ends, resets across, and nothing left of any that ended."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.errors import HandshakeFailed, LinkClosed, LinkError, StreamReset
from meshnode.mesh import exchange, opening
from meshnode.mesh.opening import Opening
from meshnode.mesh.splice import HOP_S
from meshnode.mux import CANCEL, INTERNAL_ERROR
from meshnode.net import Link, LinkStream
from tests.mesh.few import node_id
from tests.mesh.tunnelled import Tunnelled, Tunnelling, tunnelling
from tests.net.kit import no_answer, read_all

End = Callable[[LinkStream], Awaitable[None]]


class Row:
    """a - relay - c: `open` gives a's end of a tunnel, and c's is handed to `end`."""

    def __init__(self, a: Tunnelled, relay: Tunnelled, c: Tunnelled, end: End) -> None:
        self.a, self.relay, self.c = a, relay, c
        self.ends: list[LinkStream] = []

        async def serve(link: Link, stream: LinkStream) -> None:
            asked = opening.read(await stream.head())
            await opening.accept(stream, (*asked.path, c.id))
            self.ends.append(stream)
            await end(stream)

        c.tunnels.serve = serve  # type: ignore[method-assign]

    @classmethod
    async def of(cls, where: Tunnelling, end: End, **settings: float) -> Row:
        a, relay, c = await where.row("arc", **settings)
        return cls(a, relay, c, end)

    async def open(self) -> LinkStream:
        return await opened(self.a, self.relay, self.c)

    async def nothing_left(self) -> None:
        """No tunnel, no entry of any, and no stream on any of the links."""
        await wait_all_tasks_blocked()
        relay = self.relay.tunnels.relay
        assert len(relay) == 0 and not relay._senders and not relay._origins
        for node in (self.a, self.relay, self.c):
            assert [link.streams for link in node.peers.links.values()] == [0] * len(node.peers.links)


async def opened(a: Tunnelled, relay: Tunnelled, to: Tunnelled) -> LinkStream:
    link = a.peers.link(relay.id)
    assert link is not None
    asked = Opening(secrets.token_hex(8), a.id, to.id, 4, ()).onward(a.id)
    stream, way = await opening.ask(link, asked)
    assert way == (a.id, relay.id, to.id)
    return stream


async def echo(stream: LinkStream) -> None:
    while data := await stream.receive_some():
        await stream.send(data)
    await stream.finish()


async def wait(stream: LinkStream) -> None:
    await trio.sleep_forever()


@given(st.lists(st.binary(max_size=200_000), max_size=6))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_pass_both_ways_as_they_are_and_their_end_after_them(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with tunnelling() as where:
            row = await Row.of(where, echo)
            stream = await row.open()
            back: list[bytes] = []

            async def read() -> None:
                back.append(await read_all(stream))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for piece in pieces:
                    await stream.send(piece)
                await stream.finish()
            assert back == [b"".join(pieces)]
            assert row.relay.tunnels.relay.carried_bytes == 2 * len(back[0])
            await row.nothing_left()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("first", ["near", "far"])
async def test_one_direction_ends_and_the_other_goes_on(autojump_clock: MockClock, first: str) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        near = await row.open()
        (far,) = row.ends
        one, other = (near, far) if first == "near" else (far, near)
        await one.send(b"last words")
        await one.finish()
        assert await read_all(other) == b"last words"
        await other.send(b"not yet")
        assert await one.receive_some() == b"not yet"
        await other.finish()
        assert await one.receive_some() == b""


@pytest.mark.parametrize("first", ["near", "far"])
@pytest.mark.parametrize("code", [CANCEL, INTERNAL_ERROR])
async def test_a_reset_by_either_end_is_a_reset_of_the_other_with_its_code(
    autojump_clock: MockClock, first: str, code: int
) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        near = await row.open()
        (far,) = row.ends
        one, other = (near, far) if first == "near" else (far, near)
        one.reset(code)
        with pytest.raises(StreamReset) as cut:
            await read_all(other)
        assert cut.value.code == code
        await row.nothing_left()


@pytest.mark.parametrize("lost", ["near", "far"])
async def test_a_link_that_is_lost_on_one_side_ends_the_other_side_at_once(
    autojump_clock: MockClock, lost: str
) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        near = await row.open()
        (far,) = row.ends
        gone, left = (row.a, far) if lost == "near" else (row.c, near)
        row.relay.peers.drop(gone.id, "the test")
        with trio.fail_after(1.0), pytest.raises((StreamReset, LinkClosed)):
            await read_all(left)
        await row.nothing_left()


async def test_what_one_end_does_not_read_stops_the_other_and_nobody_else(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait, credit_timeout_s=3600.0)
        lazy, brisk = await row.open(), await row.open()
        sent = 0
        with trio.move_on_after(60.0):
            while True:
                await lazy.send(bytes(10_000))
                sent += 10_000
        # Two windows and what a writer holds: the relay's memory is bounded by them.
        assert sent < 4 << 20
        await row.ends[1].send(b"brisk")
        assert await brisk.receive_some() == b"brisk"
        got = 0
        while got < sent:
            got += len(await row.ends[0].receive_some())


# Opening.


async def refused(row: Row, to: Tunnelled | None = None) -> str:
    with pytest.raises(HandshakeFailed) as failed:
        await opened(row.a, row.relay, to or row.c)
    await row.nothing_left()
    return str(failed.value)


async def test_who_relays_not_now_or_knows_no_way_says_so(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        row.relay.relays_not = "it is late"
        assert await refused(row) == "it is late"
        row.relay.relays_not = None
        far = await where.node("far")
        assert "knows no way to" in await refused(row, far)
        row.relay.ways[far.id] = far.id
        assert "knows no way to" in await refused(row, far)


async def test_the_words_of_whoever_refused_cross_each_relay(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        a, _, _, d = await where.row("abcd")

        async def refuse(link: Link, stream: LinkStream) -> None:
            await stream.head()
            await exchange.refuse(stream, "d is full")

        d.tunnels.serve = refuse  # type: ignore[method-assign]
        with pytest.raises(HandshakeFailed, match=r"^d is full$"):
            await a.tunnels.link(d.id)


async def test_whoever_is_nearest_to_silence_gives_up_first_and_is_heard(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        nodes = a, _, c, d = await where.row("abcd")
        d.tunnels.serve = no_answer  # type: ignore[method-assign]
        began = trio.current_time()
        with pytest.raises(HandshakeFailed, match=f"{d.id.short} opened no tunnel to {d.id.short} within"):
            await a.tunnels.link(d.id, hops=3)
        # c has one link to go, and HOP_S for each and two more.
        assert trio.current_time() - began <= 3 * HOP_S
        await wait_all_tasks_blocked()
        assert [node.counts() for node in nodes] == [(0, 0)] * 4
        link = c.peers.link(d.id)
        assert link is not None and link.streams == 0


async def test_who_leaves_while_a_tunnel_is_being_opened_leaves_nothing_open(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        row.c.tunnels.serve = no_answer  # type: ignore[method-assign]
        with trio.move_on_after(0.5):
            await row.open()
        await row.nothing_left()


async def test_the_bounds_of_a_relay_are_for_all_for_one_neighbour_and_for_one_origin(
    autojump_clock: MockClock,
) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait, tunnels=4, tunnels_per_origin=1)
        link = row.a.peers.link(row.relay.id)
        assert link is not None

        async def ask(origin: str, by: Link = link, sender: Tunnelled = row.a) -> None:
            me = node_id(origin)
            asked = Opening(secrets.token_hex(8), me, row.c.id, 4, (me, sender.id))
            await opening.ask(by, asked)

        await ask("one")
        with pytest.raises(HandshakeFailed, match="as many tunnels of"):
            await ask("one")
        await ask("two")
        # Whose they are is this neighbour's word alone: half of all is what it gets.
        with pytest.raises(HandshakeFailed, match="as many tunnels as it takes"):
            await ask("three")
        other = await where.node("other")
        further = await where.link(other, row.relay)
        await ask("one", further, other)
        await ask("four", further, other)
        third = await where.node("third")
        with pytest.raises(HandshakeFailed, match="as many tunnels as it takes"):
            await ask("five", await where.link(third, row.relay), third)
        # What has ended makes room.
        row.relay.peers.drop(other.id, "the test")
        await wait_all_tasks_blocked()
        await ask("five", third.peers.links[row.relay.id], third)


# Ends that the relay makes.


async def test_a_tunnel_through_which_nothing_comes_is_cut_on_both_sides_and_a_busy_one_is_not(
    autojump_clock: MockClock,
) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait, tunnel_idle_s=60.0)
        busy, idle = await row.open(), await row.open()
        for _ in range(20):
            await trio.sleep(10.0)
            # From the far end: either direction counts.
            await row.ends[0].send(b".")
        assert len(row.relay.tunnels.relay) == 1
        await wait_all_tasks_blocked()
        assert await busy.receive_some() == b"." * 20
        for end in (idle, row.ends[1]):
            with pytest.raises(LinkError):
                await end.receive_some()


@pytest.mark.parametrize("end", ["origin", "target"])
async def test_a_tunnel_ends_when_an_end_of_it_is_no_member_any_more(autojump_clock: MockClock, end: str) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        near = await row.open()
        row.relay.tunnels.review()
        await wait_all_tasks_blocked()
        assert len(row.relay.tunnels.relay) == 1
        # An origin must be one that may ask.
        row.relay.roles[row.a.id if end == "origin" else row.c.id] = frozenset({"serve"} if end == "origin" else ())
        row.relay.tunnels.review()
        with trio.fail_after(1.0), pytest.raises(LinkError):
            await read_all(near)
        await row.nothing_left()


async def test_a_relay_is_drained_when_the_last_tunnel_has_ended(autojump_clock: MockClock) -> None:
    async with tunnelling() as where:
        row = await Row.of(where, wait)
        relay = row.relay.tunnels.relay
        await relay.drained()
        streams = [await row.open(), await row.open()]
        for left in (1, 0):
            with trio.move_on_after(5.0) as waited:
                await relay.drained()
            assert waited.cancelled_caught and len(relay) == left + 1
            streams.pop().reset()
            await wait_all_tasks_blocked()
        await relay.drained()
