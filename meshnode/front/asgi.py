"""The short way for inference requests: ASGI straight to the handlers, everything else to the Quart application.

Quart's request object, context and routing cost more than all the rest of a small request together; the Quart
application serves the same routes and is the reference (tests hold the two equal). Relies on the server to cancel the
application when its client is gone (exchange). Counterparts: app, handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import trio

from meshnode.access import Scope
from meshnode.config.front import FrontSection
from meshnode.dialects import CHAT, COMPLETION, EMBEDDINGS, http_problem
from meshnode.errors import BodyTooLarge, RequestError
from meshnode.front.doors import Doors
from meshnode.front.exchange import READY, ASGIApp
from meshnode.front.gate import Gate
from meshnode.front.handlers import Incoming, infer, request_id_of
from meshnode.front.reply import Headers, refuse, send_whole

INFERENCE_ROUTES = frozenset({CHAT, COMPLETION, EMBEDDINGS})

_NONE: Mapping[str, Any] = {}

SLOW_BODY = "The request body did not arrive in time"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class AsgiReply:
    """A Reply over ASGI's `send`. `extra` headers go with every response."""

    __slots__ = ("_extra", "_send")

    def __init__(self, send: Send, extra: Headers = ()) -> None:
        self._send = send
        self._extra = extra

    async def start(self, status: int, headers: Headers) -> None:
        """The head; the server holds it until the first body."""
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._extra]})

    async def send(self, data: bytes, more: bool = True) -> None:
        """Some of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class InferenceLane:
    """The ASGI application of a node: inference itself, the rest through `fallback`."""

    def __init__(self, fallback: ASGIApp, doors: Doors, section: FrontSection) -> None:
        self._fallback = fallback
        self._doors = doors
        self._section = section
        self._gate = Gate(section)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in INFERENCE_ROUTES:
            await self._infer(scope, receive, send)
        else:
            await self._fallback(scope, receive, send)

    async def _infer(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = header_map(scope["headers"])
        reply = AsgiReply(send, cors_headers(headers, self._gate))
        try:
            self._gate.check("POST", headers)
            caller = self._doors.keys.admit(headers, Scope.INFER)
            body = _ready(scope, self._section)
            if body is None:
                body = await read_body(receive, self._section)
        except RequestError as error:
            await refuse(reply, error, request_id_of(headers))
            return
        if body is None:
            status, problem, text = http_problem(408, SLOW_BODY)
            await send_whole(reply, status, {**problem, "x-request-id": request_id_of(headers)}, text)
            return
        await infer(Incoming("POST", scope["path"], headers, body, caller), self._doors, self._section, reply)


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; repeated ones joined (RFC 9110 §5.3)."""
    found: dict[str, str] = {}
    for raw, value in pairs:
        name = raw.decode("latin-1")
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def cors_headers(headers: Mapping[str, str], gate: Gate) -> Headers:
    """For a page of a listed origin, and for nobody else; never `*`."""
    origin = headers.get("origin")
    if origin is None or not gate.allows_origin(origin):
        return ()
    return ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin"))


def _ready(scope: Any, section: FrontSection) -> bytes | None:
    ready = scope.get("extensions", _NONE).get(READY)
    body: bytes | None = ready() if ready is not None else None
    if body is not None and len(body) > section.body_limit_bytes:
        raise _too_large(section)
    return body


def _too_large(section: FrontSection) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than the {section.body_limit_bytes} bytes accepted here")


async def read_body(receive: Receive, section: FrontSection) -> bytes | None:
    """The whole body, or None when it takes longer than `body_timeout_s`. Raises BodyTooLarge."""
    chunks: list[bytes] = []
    size = 0
    with trio.CancelScope(deadline=trio.current_time() + section.body_timeout_s):
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return b"".join(chunks)
            if event["body"]:
                chunks.append(event["body"])
                size += len(event["body"])
            if size > section.body_limit_bytes:
                raise _too_large(section)
            if not event["more_body"]:
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return None
