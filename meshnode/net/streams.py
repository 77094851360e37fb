"""The streams of one link: each is told what the Mux says of it, and those that the peer opened are served.

Not for the link's own tasks (link.py) nor for what a stream does with what it is told (stream.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from meshnode.errors import LinkClosed, LinkError, StreamReset
from meshnode.mux import (
    CANCEL,
    INTERNAL_ERROR,
    Beat,
    Data,
    Ended,
    Event,
    Head,
    Headers,
    Opened,
    Overflowed,
    Reset,
    StreamKey,
    Trailers,
    Writable,
)
from meshnode.net.stream import LinkStream
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.net.link import Link

OnOpen = Callable[["Link", LinkStream], Awaitable[None]]

logger = log.get("net")


class Streams:
    """Those that are not over, or have bytes that nobody has read yet.

    `nursery` is where streams of the peer are served, set while the link runs.
    """

    def __init__(self, link: Link, on_open: OnOpen) -> None:
        self._link = link
        self._on_open = on_open
        self._by_key: dict[StreamKey, LinkStream] = {}
        self.nursery: trio.Nursery | None = None

    def add(self, key: StreamKey, *, finished: bool) -> LinkStream:
        """A stream that this side has opened."""
        stream = self._by_key[key] = LinkStream(self._link, key, finished=finished)
        return stream

    def forget(self, key: StreamKey) -> None:
        """Nothing more shall be told about it."""
        self._by_key.pop(key, None)

    def deliver(self, event: Event) -> None:
        """Tell the stream that this is about."""
        match event:
            case Data(key, data, flow):
                if (stream := self._by_key.get(key)) is not None:
                    stream.arrived(data, flow)
            case Opened(key, headers, _):
                self._opened(key, headers)
            case Head(key, headers, _):
                if (stream := self._by_key.get(key)) is not None:
                    stream.arrived_head(headers)
            case Beat(key, place, mute):
                if (stream := self._by_key.get(key)) is not None:
                    stream.arrived_beat(place, mute)
            case Trailers(key, headers):
                if (stream := self._by_key.get(key)) is not None:
                    stream.arrived_trailers(headers)
            case Ended(key):
                if (stream := self._by_key.get(key)) is not None:
                    stream.arrived_end()
                    self._link.forget_if_done(stream)
            case Reset(key, code):
                if (stream := self._by_key.get(key)) is not None:
                    stream.failed(StreamReset("the peer cancelled the stream", code))
                    self._link.forget_if_done(stream)
            case Overflowed(key):
                if (stream := self._by_key.pop(key, None)) is not None:
                    stream.cut(StreamReset("nobody read this stream while too much of its link was unread", CANCEL))
            case Writable(key) if key is not None:
                if (stream := self._by_key.get(key)) is not None:
                    stream.credited()
            case Writable():
                for stream in self._by_key.values():
                    stream.credited()
            case _:
                self._link.told(event)

    def end(self, reason: LinkError) -> None:
        """The link is gone, and every stream with it."""
        for stream in list(self._by_key.values()):
            stream.failed(LinkClosed(f"the link ended: {reason}"))
        self._by_key.clear()

    def _opened(self, key: StreamKey, headers: Headers) -> None:
        assert self.nursery is not None
        scope = trio.CancelScope()
        stream = self._by_key[key] = LinkStream(self._link, key, cancel_scope=scope)
        stream.arrived_head(headers)
        self.nursery.start_soon(self._serve, stream, scope)

    async def _serve(self, stream: LinkStream, scope: trio.CancelScope) -> None:
        code = INTERNAL_ERROR
        try:
            with scope:
                await self._on_open(self._link, stream)
                code = CANCEL
        except LinkError as error:
            logger.debug("a stream of a peer ended early", peer=self._link.peer.short, reason=str(error))
        except Exception as error:  # crash barrier: a handler's fault ends its stream, never the link
            log.crash(logger, "serving a peer's stream crashed", error, peer=self._link.peer.short)
        finally:
            stream.leave(code)
