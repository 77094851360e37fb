"""A stream as a pipe: what trio asks of streams, endings that arrive, and a whole link over a link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, check_two_way_stream

from meshnode.net import Link, LinkStream, Pipe
from tests.net.kit import OK, ask, authenticate, echo, linked, read_all


@asynccontextmanager
async def piped() -> AsyncIterator[tuple[Pipe, Pipe]]:
    """Both ends of a pipe over one stream of a link."""
    arrived: list[LinkStream] = []
    here, over = trio.Event(), trio.Event()

    async def take(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        arrived.append(stream)
        here.set()
        with trio.CancelScope(shield=True):
            # Whoever closes cancels this task, but not the other end's reading.
            await over.wait()

    async with linked(take) as both:
        stream = await both.dialer.request(ask("/tunnel"), end=False)
        await stream.head()
        await here.wait()
        try:
            yield Pipe(stream), Pipe(arrived[0])
        finally:
            over.set()


async def test_it_is_a_stream_as_trio_wants_them(autojump_clock: MockClock) -> None:
    made, taken = trio.open_memory_channel[tuple[Pipe, Pipe]](0)

    async def hold() -> None:
        async with piped() as pair:
            await made.send(pair)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:

        async def make() -> tuple[Pipe, Pipe]:
            nursery.start_soon(hold)
            return await taken.receive()

        await check_two_way_stream(make, None)
        nursery.cancel_scope.cancel()


async def test_what_was_sent_before_the_end_arrives(autojump_clock: MockClock) -> None:
    async with piped() as (near, far):
        await near.send_all(b"last words" * 10_000)
        await trio.aclose_forcefully(near)
        got = b""
        while data := await far.receive_some(4096):
            got += data
        assert got == b"last words" * 10_000
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await far.send_all(b"nobody hears this")


async def test_a_reset_breaks_the_pipe(autojump_clock: MockClock) -> None:
    async with piped() as (near, far):
        near._stream.reset()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()


async def test_the_carrying_links_end_is_the_pipes(autojump_clock: MockClock) -> None:
    carried = trio.Event()

    async def take(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        await trio.sleep_forever()

    async with linked(take) as both:
        stream = await both.dialer.request(ask(), end=False)
        await stream.head()
        pipe = Pipe(stream)

        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await pipe.receive_some()
            carried.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await both.left.aclose()
        assert carried.is_set()


async def test_a_link_runs_over_a_stream_of_another(autojump_clock: MockClock) -> None:
    async with piped() as (left, right):
        make_dialer, make_listener = await authenticate(left, right)
        dialer, listener = make_dialer(echo), make_listener(echo)
        async with trio.open_nursery() as nursery:
            await nursery.start(dialer.run)
            await nursery.start(listener.run)
            body = bytes(range(256)) * 8192
            for asker in (dialer, listener):
                answers: list[bytes] = []

                async def one(asker: Link = asker, answers: list[bytes] = answers) -> None:
                    stream = await asker.request(ask(), end=False)
                    async with trio.open_nursery() as both:
                        both.start_soon(stream.send, body)
                        got = b""
                        while len(got) < len(body):
                            got += await stream.receive_some()
                        answers.append(got)
                    await stream.finish()
                    assert await read_all(stream) == b""

                async with trio.open_nursery() as many:
                    for _ in range(5):
                        many.start_soon(one)
                assert answers == [body] * 5
            nursery.cancel_scope.cancel()


async def test_one_unread_stream_inside_stops_no_other(autojump_clock: MockClock) -> None:
    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        await stream.send(b"x" * (1 << 20))
        await stream.finish()

    async with piped() as (left, right):
        make_dialer, make_listener = await authenticate(left, right)
        dialer, listener = make_dialer(echo), make_listener(serve)
        async with trio.open_nursery() as nursery:
            await nursery.start(dialer.run)
            await nursery.start(listener.run)
            unread = await dialer.request(ask())
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                assert len(await read_all(await dialer.request(ask()))) == 1 << 20
            assert len(await read_all(unread)) == 1 << 20
            nursery.cancel_scope.cancel()
