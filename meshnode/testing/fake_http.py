"""The smallest HTTP/1.1 server the fake engine needs: one exchange at a time, and it notices at once who leaves.

Not a web server: it trusts what it reads. Counterpart: fake_engine.py, which decides what is answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import httptools
import trio

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class Exchange:
    """A request as read, and the way to answer it: `send_whole`, or `begin`, `send`, `finish`; or `die`, or
    `send_half`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    stream: trio.abc.Stream
    keep_alive: bool
    over: bool = field(default=False, init=False)

    async def send_whole(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """A whole answer; like llama-server, an error closes the connection."""
        self.keep_alive = self.keep_alive and status < 400
        self.over = True
        await self.stream.send_all(self._head(status, kind, f"content-length: {len(body)}") + body)

    async def send_half(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """The head of a whole answer and half of its body; then the connection ends."""
        self.die()
        await self.stream.send_all(self._head(status, kind, f"content-length: {len(body)}") + body[: len(body) // 2])

    async def begin(self, kind: str = "text/event-stream") -> None:
        """The head of a chunked answer."""
        await self.stream.send_all(self._head(200, kind, "transfer-encoding: chunked"))

    async def send(self, data: bytes) -> None:
        """One chunk."""
        await self.stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def finish(self) -> None:
        """The true end of a chunked answer."""
        # Before the last bytes: a client that has them may close before this task runs again.
        self.over = True
        await self.stream.send_all(b"0\r\n\r\n")

    def die(self) -> None:
        """End the connection where the answer stands: what a crash looks like from outside."""
        self.keep_alive = False
        self.over = True

    def _head(self, status: int, kind: str, length: str) -> bytes:
        connection = "keep-alive" if self.keep_alive else "close"
        reason = REASONS.get(status, "Status")
        return (
            f"HTTP/1.1 {status} {reason}\r\nserver: fake-engine\r\ncontent-type: {kind}\r\n{length}\r\n"
            f"connection: {connection}\r\n\r\n"
        ).encode()


Answering = Callable[[Exchange], Awaitable[None]]


class _Reading:
    """Gathers one request out of the parser's calls."""

    def __init__(self) -> None:
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.whole = True


async def serve(stream: trio.abc.Stream, answering: Answering, on_cut: Callable[[Exchange], None]) -> None:
    """Answer request after request until either end closes. `on_cut` is told of each exchange whose client left
    before it was over; its `answering` has been cancelled by then."""
    rest: bytes | None = b""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
        async with stream:
            while rest is not None:
                rest = await _exchange(stream, rest, answering, on_cut)


async def _exchange(
    stream: trio.abc.Stream, data: bytes, answering: Answering, on_cut: Callable[[Exchange], None]
) -> bytes | None:
    """One request and its answer. The bytes that came meanwhile, or None when the connection is over."""
    reading = _Reading()
    parser = httptools.HttpRequestParser(reading)
    parser.feed_data(data)
    while not reading.whole:
        data = bytes(await stream.receive_some(65_536))
        if not data:
            return None
        parser.feed_data(data)
    exchange = Exchange(
        parser.get_method().decode(), reading.path, reading.headers, reading.body, stream, parser.should_keep_alive()
    )
    rest = await _answer(exchange, answering)
    if not exchange.over:
        on_cut(exchange)
        return None
    return rest if exchange.keep_alive else None


async def _answer(exchange: Exchange, answering: Answering) -> bytes:
    """Answer while listening: a client that closes cancels what is being done for it. What it sent meanwhile."""
    rest = b""
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            nonlocal rest
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                rest = bytes(await exchange.stream.receive_some(65_536))
            if not rest:
                nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await answering(exchange)
        nursery.cancel_scope.cancel()
    return rest
