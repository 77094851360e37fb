"""HTTP/1.1 and nothing else: Hypercorn's h11 protocol without its ways to WebSocket, HTTP/2 and proxying.

Measured on Hypercorn 0.18: a WebSocket upgrade with trailing bytes and a thousand HTTP/2 PRIORITY frames each end the
whole server, and rapid reset starts thousands of handlers. What cannot be reached cannot do that. Not for time limits
and sockets (guard). Counterpart: guard.Connection, which feeds it.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.logging import Logger
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import H11SendableEvent

from meshnode.dialects import http_problem
from meshnode.front.reply import encode

_REASONS = {
    400: "The request is not valid HTTP/1.1",
    408: "The request did not arrive in time",
    413: "The request body is larger than this node accepts",
    431: "The request's headers are larger than this node accepts",
    500: "The request failed inside this node",
    501: "Upgrades, CONNECT, proxying and methods in lower case are not supported",
    503: "This node has too many connections",
    505: "HTTP/2 is not spoken here; use HTTP/1.1",
}


class QuietLogger(Logger):
    """Hypercorn's own lines go nowhere: access logs cost 10 to 25 %, its tracebacks are the crash barrier's to log."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.access_logger = None
        self.error_logger = None


class ServerConfig(Config):
    """Hypercorn's configuration for streams. The date header is made once a second."""

    accesslog = None
    errorlog = None
    logger_class = QuietLogger
    # A tool that keeps its connection for a day is welcome.
    keep_alive_max_requests = 1 << 30

    _date_at = 0
    _date = (b"date", b"")

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """What every response carries."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = (b"date", formatdate(now, usegmt=True).encode())
        return [self._date]


def problem(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body for a fault of HTTP itself, after which the connection closes."""
    _, headers, body = http_problem(status, _REASONS.get(status, HTTPStatus(status).phrase))
    headers.update({"content-length": str(len(body)), "connection": "close"})
    return encode(headers), body


def problem_bytes(status: int) -> bytes:
    """The same as a whole response, for a connection that has no protocol."""
    headers, body = problem(status)
    head = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    return head + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + body


class _Refused(Exception):
    """A request head that gets no handler. Never leaves this module."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class PlainProtocol(H11Protocol):
    """One connection's HTTP/1.1: a request becomes an HTTPStream, anything else is refused and the connection closed.

    A response's head is held back until the first of its body, so that a short response is one segment.
    """

    body_limit_bytes = 1 << 62
    in_head = False
    """Whether some bytes of a request head have come, and not yet the whole head."""

    _held = b""
    _to_head = False
    """Whether the request was HEAD: neither its response nor its refusal has a body (RFC 9110 §9.3.2)."""

    async def handle(self, event: Event) -> None:
        """Hypercorn's entry; refusals end here."""
        try:
            await super().handle(event)
        except _Refused as refusal:
            await self._send_error_response(refusal.status)
            await self.send(Closed())
        self.in_head = self.stream is None and bool(self.connection.trailing_data[0])

    async def stream_send(self, event: StreamEvent) -> None:
        """What a stream wants written. Bytes leave with the body, not with the head."""
        match event:
            case Response(status_code=status, headers=headers):
                extra = self.config.response_headers("h11")
                if self.context.terminated.is_set():
                    extra = [*extra, (b"connection", b"close")]
                self._held = self._bytes_of(h11.Response(status_code=status, headers=[*headers, *extra]))
            case Body(data=data):
                await self._release(self._bytes_of(h11.Data(data=data)))
            case EndBody():
                await self._release(self._bytes_of(h11.EndOfMessage()))
                self._to_head = False
            case _:
                await super().stream_send(event)

    async def _release(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        if data:
            await self.send(RawData(data=data))

    def _bytes_of(self, event: H11SendableEvent) -> bytes:
        """As in Hypercorn: a client that broke the protocol meanwhile gets no more bytes; our own faults are raised."""
        if self._to_head and isinstance(event, h11.Data):
            return b""
        try:
            return self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return b""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Called with each request head, before a stream exists for it."""
        self._to_head = event.method == b"HEAD"
        if event.http_version not in (b"1.1", b"1.0"):
            raise _Refused(505)
        # Methods have one case (RFC 9110 §9.1). Hypercorn would take `head` for HEAD, h11 would not: half an answer.
        if event.method != event.method.upper():
            raise _Refused(501)
        if event.method == b"CONNECT" or not event.target.startswith(b"/"):
            raise _Refused(501)
        for name, value in event.headers:
            # An offer of HTTP/2 is ignored, as RFC 9110 §7.8 allows: Java's client makes it with each request.
            if name == b"upgrade" and value.strip().lower() != b"h2c":
                raise _Refused(501)
            if name == b"content-length" and int(value) > self.body_limit_bytes:
                raise _Refused(413)

    async def _send_error_response(self, status_code: int) -> None:
        headers, body = problem(status_code)
        response = h11.Response(status_code=status_code, headers=[*headers, *self.config.response_headers("h11")])
        await self.send(
            RawData(
                data=self._bytes_of(response) + self._bytes_of(h11.Data(data=body)) + self._bytes_of(h11.EndOfMessage())
            )
        )
