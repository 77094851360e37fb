"""One HTTP/1.1 connection to an engine and the answer that is being read from it.

llhttp calls back with what it found; this keeps it until the answer takes it. Not for pooling or dialling (client.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

import httptools
import trio

from meshnode.errors import EngineFailed
from meshnode.net.socket_stream import SocketStream

if TYPE_CHECKING:
    from meshnode.engine.client import EngineClient


@runtime_checkable
class Closable(Protocol):
    """A stream that can be closed without waiting: sockets, and trio's memory streams (by their sending end)."""

    def close(self) -> None: ...


READ_BYTES = 65_536
"""One read: four times the largest TLS record, and what a local socket holds when an engine runs flat out."""


class Connection:
    """A stream, its parser, and the current answer: `status`, `headers`, `body` as it came, `complete` at the end."""

    __slots__ = ("_client", "_parser", "_received", "_stream", "_until_close", "body", "complete",
                 "head_done", "headers", "reusable", "status")  # fmt: skip

    def __init__(self, stream: trio.abc.Stream, client: EngineClient) -> None:
        self._stream = stream
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self.renew()

    def renew(self) -> None:
        """Ready for the next answer on the same stream."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.head_done = self.complete = self.reusable = self._until_close = False
        self._received = 0

    async def exchange(self, message: bytes, *, last: bool) -> bool:
        """Send a request and read until the answer's head is known.

        False, unless `last`, when the stream died before the first byte of an answer: another may be tried. Raises
        EngineFailed otherwise.
        """
        try:
            await self._stream.send_all(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # An engine that refuses a body answers and closes: its answer may be there to be read.
            if not last:
                return False
        while not self.head_done:
            if not await self.read(first=not last):
                return False
        return True

    async def read(self, *, first: bool = False) -> bool:
        """Read once and parse. False only with `first`, when the stream ended with nothing of the answer come."""
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if first and not self._received:
                return False
            self._fail("broke the connection", error)
        if not data:
            return self._ended(first)
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self._fail("answered with an upgrade nobody asked for", error)
        except httptools.HttpParserError as error:
            if not self.complete:
                self._fail(f"answered what is not HTTP: {error}", error)
            self.reusable = False
        self._check_size()
        return True

    def take(self) -> bytes:
        """The body bytes that have come since the last call, as one."""
        body = self.body
        if len(body) == 1:
            self.body = []
            return body[0]
        if not body:
            return b""
        self.body = []
        return b"".join(body)

    def quiet(self) -> bool:
        """Whether an idle stream is still open with nothing to read. Known without waiting only of plain sockets;
        any other counts as not."""
        return isinstance(self._stream, SocketStream) and self._stream.quiet()

    def close(self) -> None:
        """End the stream now, without the courtesies of its protocol."""
        transport = self._stream
        if isinstance(transport, trio.SSLStream):
            transport = transport.transport_stream
        closing = transport if isinstance(transport, Closable) else getattr(transport, "send_stream", None)
        if isinstance(closing, Closable):
            closing.close()

    # Called by the parser.

    def on_status(self, _reason: bytes) -> None:
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.complete:
            return
        key, said = name.decode("latin-1").lower(), value.decode("latin-1")
        # Lines of one name are one list (RFC 9110 §5.3): the first must not be lost.
        self.headers[key] = f"{self.headers[key]}, {said}" if key in self.headers else said

    def on_headers_complete(self) -> None:
        if self.complete:
            self.reusable = False
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = {}
            return
        self.head_done = True
        self._until_close = "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.head_done and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

    def _ended(self, first: bool) -> bool:
        if self.head_done and self._until_close:
            self.complete = True
        elif not first or self._received:
            self._cut()
        return self.complete

    def _cut(self) -> NoReturn:
        if not self._received:
            self._fail("closed the connection without an answer", None)
        self._fail("ended the answer early" if self.head_done else "ended in the middle of an answer's head", None)

    def _check_size(self) -> None:
        section = self._client.section
        if not self.head_done:
            if self._received > section.head_limit_bytes:
                self._fail(f"sent a head of more than {section.head_limit_bytes} bytes", None)
        elif self._received > section.answer_limit_bytes and not self._is_stream():
            self._fail(f"sent an answer of more than {section.answer_limit_bytes} bytes", None)

    def _is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def _fail(self, what: str, cause: BaseException | None) -> NoReturn:
        raise EngineFailed(f"the engine at {self._client.url} {what}") from cause
