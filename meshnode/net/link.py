"""A link to one peer: one reader task, one writer task, one pinger, and a task for each stream the peer opens.

Producers append to the Mux and set an event; the writer takes everything there is, seals it in few records and sends
it at once, with no timer: the slower the pipe, the larger the batch. Not for dialling (dial.py), for choosing peers
(mesh) or for what streams mean (the `on_open` handed in). Counterpart: the Link at the other end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkClosed, LinkError, ProtocolViolation, StreamReset
from meshnode.mux import (
    CANCEL,
    FLUSH_BYTES,
    INTERNAL_ERROR,
    Data,
    Ended,
    Event,
    GoneAway,
    Head,
    Headers,
    Mux,
    Opened,
    Ponged,
    Reset,
    StreamKey,
    Trailers,
    Writable,
)
from meshnode.net.handshake import Authenticated
from meshnode.net.stream import LinkStream
from meshnode.observe import log

READ_BYTES = 256 * 1024
"""One read takes what the kernel holds: fewer wakeups under load."""

RTT_WEIGHT = 0.125
"""Weight of a new sample in the smoothed round trip time (RFC 6298 §2)."""

OnOpen = Callable[["Link", LinkStream], Awaitable[None]]

logger = log.get("net")


class Link:
    """An authenticated connection that carries requests both ways while `run` runs.

    `peer`, `membership` and `hint` come from the handshake; `rtt_s` is the smoothed round trip time, None before the
    first ping came back; `draining` says that no new streams may be opened; `reason` says why a link has ended.
    """

    def __init__(self, made_of: Authenticated, on_open: OnOpen, section: MeshSection) -> None:
        """`on_open` serves a stream the peer opened; it is cancelled when the peer resets it or the link ends."""
        self.peer = made_of.peer
        self.membership = made_of.membership
        self.hint = made_of.hint
        self.initiator = made_of.initiator
        self.rtt_s: float | None = None
        self.draining = False
        self.reason: LinkError | None = None
        self.mux = Mux(made_of.initiator, section)
        self.credit_timeout_s = section.credit_timeout_s
        self._surplus = made_of.surplus
        self._stream = made_of.stream
        self._transport = made_of.transport
        self._on_open = on_open
        self._section = section
        self._streams: dict[StreamKey, LinkStream] = {}
        self._writers: list[LinkStream] = []
        self._wake: trio.Event | None = None
        self._idle: trio.Event | None = None
        self._heard = False
        self._misses = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry the link until it ends, then return; `reason` says why. Cancel it to leave: then every stream ends
        with LinkClosed, here and at the peer."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for task in (self._read, self._write, self._ping):
                    nursery.start_soon(self._until_it_fails, task)
                task_status.started()
        finally:
            self._end(LinkClosed("this node has left the link"))
            # Forcefully: whatever could be said has been said (goaway), and the peer may not listen.
            await trio.aclose_forcefully(self._stream)

    async def request(self, headers: Headers, body: bytes = b"", *, end: bool = True) -> LinkStream:
        """Open a stream with a request's head and body; with `end` the request is complete.

        Returns when the body is queued. Raises LinkClosed (also when the link is draining), StreamReset when the peer
        or the number of open streams refuses it, BadRequest for headers that cannot travel. Cancelled meanwhile, the
        stream is reset.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.reason is not None or self._nursery is None:
            raise LinkClosed(f"the link has ended: {self.reason}" if self.reason else "the link does not run yet")
        bare = end and not body
        key = self.mux.open(headers, bare)
        stream = self._streams[key] = LinkStream(self, key, finished=bare)
        self.flush()
        if not body:
            return stream
        try:
            await stream.send(body)
            if end:
                await stream.finish()
        except StreamReset:
            # Refused before it was read in full, as HTTP lets a server do: the answer says why.
            if not stream.answered:
                raise
        except BaseException:
            stream.reset()
            raise
        return stream

    def goaway(self) -> None:
        """Open no more streams from either side; those that run go on."""
        if self.reason is None:
            self.draining = True
            self.mux.goaway()
            self.flush()

    async def drained(self) -> None:
        """Wait until no stream is open and their bytes have been sent, or the link is gone. Meant after `goaway`."""
        await trio.lowlevel.checkpoint()
        while self.reason is None and self.streams:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    @property
    def streams(self) -> int:
        """Streams that are open now, both ways, or have bytes to send."""
        return self.mux.streams

    # For LinkStream; none of these waits.

    def flush(self) -> None:
        """There may be something to send."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def room(self) -> int:
        """Bytes that may be queued before producers wait."""
        return self._section.write_buffer_bytes - self.mux.queued

    def waits_to_write(self, stream: LinkStream) -> None:
        """Wake this stream when there is room."""
        self._writers.append(stream)

    def credit(self, key: StreamKey, flow: int) -> None:
        """The reader took bytes."""
        if self.mux.credit(key, flow):
            self.flush()

    def reset(self, stream: LinkStream, code: int) -> None:
        """Tell the peer that the stream is over."""
        if self.reason is None:
            self.mux.reset(stream.key, code)
            self.flush()
        self._forget(stream.key)

    def forget_if_over(self, stream: LinkStream) -> None:
        """Both directions have ended: nothing more will be told about it."""
        if stream.over:
            self._forget(stream.key)

    # The tasks.

    async def _until_it_fails(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except LinkError as error:
            self._end(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(LinkClosed(f"the connection broke: {error}"))
        except Exception as error:  # crash barrier: a fault of ours ends this link and no other
            log.crash(logger, "a link crashed", error, peer=self.peer.short)
            self._end(LinkClosed(f"this end crashed: {type(error).__name__}"))

    async def _read(self) -> None:
        data, self._surplus = self._surplus, b""
        while True:
            now = trio.current_time()
            for record in self._transport.open(data) if data else ():
                for event in self.mux.receive(record, now):
                    self._deliver(event)
            if self.mux.wants_to_send or self._idle is not None:
                # Answers to pings, credit, resets.
                self.flush()
            data = bytes(await self._stream.receive_some(READ_BYTES))
            if not data:
                raise LinkClosed("the peer closed the connection")
            self._heard = True

    async def _write(self) -> None:
        seal = self._transport.seal
        while True:
            records = self.mux.records_to_send(FLUSH_BYTES)
            if records:
                await self._stream.send_all(b"".join([seal(record) for record in records]))
                if self._writers and self.room() > 0:
                    writers, self._writers = self._writers, []
                    for stream in writers:
                        stream.credited()
            else:
                self._tell_if_idle()
                self._wake = trio.Event()
                await self._wake.wait()

    async def _ping(self) -> None:
        while True:
            if self._heard:
                self._misses, self._heard = 0, False
            self.mux.ping(trio.current_time())
            self.flush()
            await trio.sleep(self._section.ping_s)
            # Any byte is a sign of life: an answer may wait behind a slow pipe.
            self._misses += 1
            if self._misses >= self._section.ping_misses and not self._heard:
                raise LinkClosed(f"no sign of life for {self._section.ping_s * self._section.ping_misses:g} s")

    async def _serve(self, stream: LinkStream, scope: trio.CancelScope) -> None:
        code = INTERNAL_ERROR
        try:
            with scope:
                await self._on_open(self, stream)
                code = CANCEL
        except LinkError as error:
            logger.debug("a stream of a peer ended early", peer=self.peer.short, reason=str(error))
        except Exception as error:  # crash barrier: a handler's fault ends its stream, never the link
            log.crash(logger, "serving a peer's stream crashed", error, peer=self.peer.short)
        finally:
            stream.leave(code)

    # What the Mux tells.

    def _deliver(self, event: Event) -> None:
        match event:
            case Data(key, data, flow):
                if (stream := self._streams.get(key)) is not None:
                    stream.arrived(data, flow)
            case Opened(key, headers, _):
                self._opened(key, headers)
            case Head(key, headers, _):
                if (stream := self._streams.get(key)) is not None:
                    stream.arrived_head(headers)
            case Trailers(key, headers):
                if (stream := self._streams.get(key)) is not None:
                    stream.arrived_trailers(headers)
            case Ended(key):
                if (stream := self._streams.get(key)) is not None:
                    stream.arrived_end()
                    self.forget_if_over(stream)
            case Reset(key, code):
                if (stream := self._streams.get(key)) is not None:
                    stream.failed(StreamReset("the peer cancelled the stream", code))
                    self._forget(key)
            case Writable(key) if key is not None:
                if (stream := self._streams.get(key)) is not None:
                    stream.credited()
            case Writable():
                for stream in self._streams.values():
                    stream.credited()
            case Ponged(rtt_s):
                self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + RTT_WEIGHT * (rtt_s - self.rtt_s)
            case GoneAway():
                self.draining = True

    def _opened(self, key: StreamKey, headers: Headers) -> None:
        assert self._nursery is not None
        scope = trio.CancelScope()
        stream = self._streams[key] = LinkStream(self, key, cancel_scope=scope)
        stream.arrived_head(headers)
        self._nursery.start_soon(self._serve, stream, scope)

    def _forget(self, key: StreamKey) -> None:
        self._streams.pop(key, None)

    def _tell_if_idle(self) -> None:
        if self._idle is not None and (self.reason is not None or not self.streams):
            self._idle.set()
            self._idle = None

    def _end(self, reason: LinkError) -> None:
        """The link is over: every stream ends, every task is cancelled. Only the first reason counts."""
        if self.reason is not None:
            return
        self.reason = reason
        self.draining = True
        level = logger.warning if isinstance(reason, ProtocolViolation) else logger.debug
        level("a link ended", peer=self.peer.short, reason=str(reason))
        for stream in list(self._streams.values()):
            stream.failed(LinkClosed(f"the link ended: {reason}"))
        self._streams.clear()
        self._tell_if_idle()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
