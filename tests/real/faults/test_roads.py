"""A road carries both ways; silent, it keeps what it was given; closed, it ends what was on it and takes none."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.real.faults.roads import Road


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


@pytest.fixture
async def road(nursery: trio.Nursery) -> Road:
    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    made = Road(listeners[0].socket.getsockname()[1])
    await nursery.start(made.run)
    return made


@contextlib.asynccontextmanager
async def travelling(road: Road) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", road.port) as stream:
        yield stream


async def test_what_goes_in_comes_out(road: Road) -> None:
    async with travelling(road) as stream:
        await stream.send_all(b"there and back")
        assert await stream.receive_some() == b"there and back"


async def test_silence_keeps_what_was_sent_until_it_is_over(road: Road) -> None:
    async with travelling(road) as stream:
        await stream.send_all(b"1")
        assert await stream.receive_some() == b"1"
        road.silence()
        await stream.send_all(b"2")
        heard: list[bytes] = []

        async def listen() -> None:
            heard.append(bytes(await stream.receive_some()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            assert not heard
            road.mend()
        assert heard == [b"2"]


async def test_closed_it_ends_old_and_new_connections_until_it_is_mended(road: Road) -> None:
    async with travelling(road) as stream:
        await stream.send_all(b"1")
        assert await stream.receive_some() == b"1"
        road.close()
        with contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
    async with travelling(road) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
    road.mend()
    async with travelling(road) as stream:
        await stream.send_all(b"2")
        assert await stream.receive_some() == b"2"
