"""What lies unread on a link: bounded in all, whoever should have read it, and nobody else pays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from meshnode.errors import StreamReset
from meshnode.net import Link, LinkStream
from meshnode.net.stream import MAX_CHUNKS
from tests.net.kit import OK, SECTION, ask, echo, linked, read_all

SMALL = replace(SECTION, link_buffer_bytes=600_000)


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def pour(link: Link, stream: LinkStream) -> None:
    """Sends 250 kB, then waits (`/wait`) or ends (`/end`)."""
    path = (await stream.head())[":path"]
    await stream.send_head(OK)
    await stream.send(b"x" * 250_000)
    if path == "/end":
        await stream.finish([("meshnode-done", "1")])
    else:
        await trio.sleep_forever()


async def test_the_stream_unread_longest_is_cut_and_its_server_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked(pour, section=SMALL) as pair:
        streams = []
        for _ in range(3):
            streams.append(await pair.dialer.request(ask("/wait")))
            await quiet()
            await trio.sleep(0.1)
        assert pair.dialer.mux.unread == 500_000
        assert pair.listener.streams == 2
        with pytest.raises(StreamReset, match="nobody read this stream"):
            await streams[0].receive_some()
        for stream in streams[1:]:
            assert len(await stream.receive_some()) == 250_000
        assert pair.dialer.mux.unread == 0
        assert pair.dialer.reason is pair.listener.reason is None


async def test_an_answer_that_had_ended_well_is_not_passed_off_as_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with linked(pour, section=SMALL) as pair:
        streams = []
        for _ in range(3):
            streams.append(await pair.dialer.request(ask("/end")))
            await quiet()
            await trio.sleep(0.1)
        with pytest.raises(StreamReset, match="nobody read this stream"):
            await read_all(streams[0])
        for stream in streams[1:]:
            assert len(await read_all(stream)) == 250_000
            assert stream.trailers == {"meshnode-done": "1"}
        assert not pair.dialer._streams._by_key


async def test_a_request_nobody_reads_is_cut_and_its_handler_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cancelled = []

    async def ignore(link: Link, stream: LinkStream) -> None:
        path = (await stream.head())[":path"]
        if path == "/echo":
            await echo(link, stream)
            return
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(path)

    async with linked(ignore, section=SMALL) as pair:
        for number in range(3):
            stream = await pair.dialer.request(ask(f"/{number}"), end=False)
            await stream.send(b"x" * 250_000)
            await quiet()
            await trio.sleep(0.1)
        assert cancelled == ["/0"]
        fine = await pair.dialer.request(ask(), b"and others go on")
        assert await read_all(fine) == b"and others go on"


@pytest.mark.parametrize("leave", ["reset", "aclose"])
@pytest.mark.parametrize("path", ["/wait", "/end"])
async def test_who_leaves_a_stream_leaves_no_bytes_behind(
    leave: str, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with linked(pour) as pair:
        stream = await pair.dialer.request(ask(path))
        await quiet()
        assert pair.dialer.mux.unread == 250_000
        if leave == "reset":
            stream.reset()
        else:
            await stream.aclose()
        await quiet()
        assert pair.dialer.mux.unread == 0
        assert not pair.dialer._streams._by_key
        assert pair.dialer.streams == pair.listener.streams == 0


async def test_a_handler_that_leaves_early_leaves_no_bytes_behind(autojump_clock: trio.testing.MockClock) -> None:
    async def early(link: Link, stream: LinkStream) -> None:
        await quiet_enough.wait()
        await stream.send_head(OK)
        await stream.finish()

    quiet_enough = trio.Event()
    async with linked(early) as pair:
        stream = await pair.dialer.request(ask(), b"x" * 100_000)
        await quiet()
        assert pair.listener.mux.unread == 100_000
        quiet_enough.set()
        assert await read_all(stream) == b""
        await quiet()
        assert pair.listener.mux.unread == 0
        assert not pair.listener._streams._by_key


async def test_single_bytes_are_kept_together(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        for number in range(2000):
            await stream.send(bytes([number % 256]))
            # Each in a frame of its own.
            await quiet()
        await stream.finish()

    async with linked(drip) as pair:
        stream = await pair.dialer.request(ask())
        await stream.head()
        await trio.sleep(1)
        assert 10 < len(stream._chunks) <= MAX_CHUNKS
        assert await read_all(stream) == bytes(number % 256 for number in range(2000))
