"""One request between a connection's reader and the application: events one way, messages the other, and its end.

Replaces Hypercorn's task group: the application is cancelled at once when its client is gone, and what it raises ends
this one exchange only. Not for bytes (protocol) nor for limits (guard). Counterpart: hypercorn's HTTPStream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from meshnode.front.protocol import problem
from meshnode.observe import log

logger = log.get("front")

ASGIApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

READY = "meshnode.ready_body"
"""An ASGI extension: a callable that gives a request's body at once, without waiting and without a time limit, if all
of it is here. Nearly always it is, since head and body come in one read."""

QUEUED_EVENTS = 16
"""Body events (64 KiB at most each) read ahead of the application; then the client waits."""


class Exchange:
    """The application's view of one request."""

    def __init__(self, app: ASGIApp, scope: Scope, send: Callable[[ASGISendEvent | None], Awaitable[None]]) -> None:
        self._app = app
        self._scope = scope
        self._send = send
        self._events: deque[ASGIReceiveEvent] = deque()
        self._changed = trio.Event()
        self._cancel_scope = trio.CancelScope()
        self._gone = False
        self._started = False
        self._complete = False
        self._over = False

    async def run(self) -> None:
        """Run the application to its end. Raises nothing of the application's own."""
        try:
            with self._cancel_scope:
                await self._app(self._scope, self._receive, self._pass)
        except* Exception as group:  # crash barrier: one request's fault is not its neighbours'
            log.crash(logger, "request crashed", group, path=self._scope.get("path"))
            if not (self._started or self._gone):
                await self._send_crash()
        finally:
            self._over = True
            self._notify()
        if not self._complete:
            await self._send(None)

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Take an event from the protocol; waits while the application has too many unread."""
        if event["type"] == "http.disconnect":
            self._gone = True
            self._notify()
            if not self._complete:
                self._cancel_scope.cancel()
            return
        while len(self._events) >= QUEUED_EVENTS and not (self._gone or self._over):
            await self._changed.wait()
        self._events.append(event)
        self._notify()

    def ready_body(self) -> bytes | None:
        """The whole body, where all of it has come and nothing was received yet; it will not be received again."""
        events = self._events
        if not events or events[-1]["type"] != "http.request" or events[-1]["more_body"]:
            return None
        pieces = [event["body"] for event in events if event["type"] == "http.request" and event["body"]]
        events.clear()
        self._notify()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _receive(self) -> ASGIReceiveEvent:
        while not self._events:
            if self._gone:
                return cast(ASGIReceiveEvent, {"type": "http.disconnect"})
            await self._changed.wait()
        event = self._events.popleft()
        if len(self._events) == QUEUED_EVENTS - 1:
            self._notify()
        return event

    async def _pass(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.body":
            self._complete = not message.get("more_body", False)
        else:
            self._started = True
        await self._send(message)

    async def _send_crash(self) -> None:
        headers, body = problem(500)
        await self._pass(cast(ASGISendEvent, {"type": "http.response.start", "status": 500, "headers": headers}))
        await self._pass(cast(ASGISendEvent, {"type": "http.response.body", "body": body, "more_body": False}))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Exchanges:
    """The exchanges of one connection, in the shape of Hypercorn's task group."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on a request; returns where its events go."""
        exchange = Exchange(cast(ASGIApp, app), scope, send)
        cast(dict[str, Any], scope)["extensions"][READY] = exchange.ready_body
        self._nursery.start_soon(exchange.run)
        return exchange.put

    def spawn(self, func: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Hypercorn's other entry; HTTP/1.1 does not use it."""
        self._nursery.start_soon(func, *args)
