"""What a listener on the wire can tell of a padded answer: how many classes of 256 bytes, no more."""

from __future__ import annotations

import trio
import trio.testing
from trio.testing import MockClock

from meshnode.net import Link, LinkStream
from tests.net.kit import OK, ask, authenticate, echo, read_all

RECORD_AND_FRAME = 2 + 16 + 1 + 9
"""Length and tag of a Noise record, the byte that names the connection, the head of a frame."""


class Tapped(trio.abc.Stream):
    """A pipe that notes the size of each send."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.sizes: list[int] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sizes.append(len(data))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.inner.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self.inner.aclose()


async def sizes_of(tokens: list[bytes], *, padded: bool) -> list[int]:
    """Of each send while an answer of these tokens, one a second, is on its way."""
    left, inner = trio.testing.memory_stream_pair()
    right = Tapped(inner)
    seen: list[int] = []

    async def serve(link: Link, stream: LinkStream) -> None:
        await stream.send_head(OK)
        if padded:
            stream.pad()
        await trio.sleep(0.5)
        for token in tokens:
            right.sizes.clear()
            await stream.send(token)
            await trio.sleep(0.25)
            seen.extend(right.sizes)
            await trio.sleep(0.75)
        await stream.finish()

    make_dialer, make_listener = await authenticate(left, right)
    dialer, listener = make_dialer(echo), make_listener(serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        # So that no ping, which is sent each five seconds, falls into the quarter after a token.
        await trio.sleep(0.6)
        assert await read_all(await dialer.request(ask())) == b"".join(tokens)
        nursery.cancel_scope.cancel()
    return seen


TOKENS = [b"I", b" am", b" unmistakable", b"x" * 255, b"x" * 256, b"y" * 1000]


async def test_sizes_on_the_wire_fall_in_classes(autojump_clock: MockClock) -> None:
    seen = await sizes_of(TOKENS, padded=True)
    assert [size - RECORD_AND_FRAME for size in seen] == [256, 256, 256, 256, 512, 1024]


async def test_without_padding_each_token_shows_its_length(autojump_clock: MockClock) -> None:
    seen = await sizes_of(TOKENS, padded=False)
    assert [size - RECORD_AND_FRAME for size in seen] == [len(token) for token in TOKENS]


async def test_a_padded_request_arrives_whole(autojump_clock: MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    make_dialer, make_listener = await authenticate(left, right)
    dialer, listener = make_dialer(echo), make_listener(echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(dialer.run)
        await nursery.start(listener.run)
        for body in (b"", b"prompt", bytes(range(256)) * 100):
            assert await read_all(await dialer.request(ask(), body, padded=True)) == body
        nursery.cancel_scope.cancel()
