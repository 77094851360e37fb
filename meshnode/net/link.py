"""A link to one peer: one reader task, one writer task, one pinger, and a task for each stream the peer opens.

Producers append to the Mux and set an event; the writer takes everything there is, seals it in few records and sends
it at once, with no timer: the slower the pipe, the larger the batch. Not for dialling (dial.py), for choosing peers
(mesh) or for what streams mean (the `on_open` handed in). Counterpart: the Link at the other end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import HandshakeFailed, LinkClosed, LinkError, ProtocolViolation, StreamReset
from meshnode.mux import FLUSH_BYTES, Event, GoneAway, Headers, Mux, Ponged, StreamKey
from meshnode.net.handshake import FAREWELL_S, Authenticated
from meshnode.net.pulse import Pulse
from meshnode.net.stream import LinkStream
from meshnode.net.streams import OnOpen, Streams
from meshnode.net.traffic import Traffic
from meshnode.noise import Channel, Rekeying
from meshnode.observe import log

READ_BYTES = 256 * 1024
"""One read takes what the kernel holds: fewer wakeups under load."""

logger = log.get("net")


class Link:
    """An authenticated connection that carries requests both ways while `run` runs.

    `peer`, `membership` and `hint` come from the handshake, `address` and `remote_host` from the connection; `rekeyed`
    counts handshakes inside the link, each of which renews `membership`; `heard_at` is when the last bytes came;
    `traffic` is where bytes are counted; `draining` says that no new streams may be opened, `parted` that the peer
    asked for that; `reason` why it ended.
    """

    def __init__(
        self,
        made_of: Authenticated,
        on_open: OnOpen,
        section: MeshSection,
        rekeying: Rekeying | None = None,
        on_renewed: Callable[[Link], None] | None = None,
    ) -> None:
        """`on_open` serves a stream the peer opened; it is cancelled when the peer resets it or the link ends.

        `rekeying` makes the keys anew while the link runs; without it (joiners) they stay. `on_renewed` is told when
        `membership` is fresh.
        """
        self.peer = made_of.peer
        self.membership = made_of.membership
        self.hint = made_of.hint
        self.initiator = made_of.initiator
        self.address, self.remote_host = made_of.address, made_of.remote_host
        self.rekeyed = 0
        self.heard_at: float | None = None
        self.parted = False
        self.draining = False
        self.reason: LinkError | None = None
        self.traffic = Traffic()
        self.mux = Mux(made_of.initiator, section)
        self.credit_timeout_s = section.credit_timeout_s
        self._surplus = made_of.surplus
        self._stream = made_of.stream
        self._channel = Channel(
            made_of.transport, self.peer, section, rekeying, trio.current_time(), initiator=made_of.initiator
        )
        self._on_renewed = on_renewed
        self._ping_s = section.ping_s
        self._write_buffer_bytes = section.write_buffer_bytes
        self._streams = Streams(self, on_open)
        self._pulse = Pulse(section)
        self._writers: list[LinkStream] = []
        self._wake: trio.Event | None = None
        self._idle: trio.Event | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry the link until it ends, then return; `reason` says why. Cancel it to leave: then every stream ends
        with LinkClosed, here and at the peer."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = self._streams.nursery = nursery
                for task in (self._read, self._write, self._ping):
                    nursery.start_soon(self._until_it_fails, task)
                task_status.started()
        finally:
            self._end(LinkClosed("this node has left the link"))
            # Forcefully: whatever could be said has been said (goaway), and the peer may not listen.
            await trio.aclose_forcefully(self._stream)

    async def request(
        self, headers: Headers, body: bytes = b"", *, end: bool = True, padded: bool = False
    ) -> LinkStream:
        """Open a stream with a request's head and body; with `end` the request is complete. `padded`: see
        LinkStream.pad.

        Returns when the body is queued. Raises LinkClosed (also when the link is draining), StreamReset when the peer
        or the number of open streams refuses it, BadRequest for headers that cannot travel. Cancelled meanwhile, the
        stream is reset.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.reason is not None or self._nursery is None:
            raise LinkClosed(f"the link has ended: {self.reason}" if self.reason else "the link does not run yet")
        bare = end and not body
        key = self.mux.open(headers, bare)
        stream = self._streams.add(key, finished=bare)
        self.flush()
        if bare or not (body or padded):
            return stream
        try:
            if padded:
                stream.pad()
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

    @property
    def rtt_s(self) -> float | None:
        """The smoothed round trip time, None before the first ping came back."""
        return self._pulse.rtt_s

    @property
    def keys_age_s(self) -> float:
        """How long the present keys have been in use."""
        return trio.current_time() - self._channel.made_at

    # For LinkStream; none of these waits.

    def flush(self) -> None:
        """There may be something to send."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def room(self) -> int:
        """Bytes that may be queued before producers wait."""
        return self._write_buffer_bytes - self.mux.queued

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
        self._streams.forget(stream.key)

    def drop(self, stream: LinkStream) -> None:
        """Nobody will read what is left of a stream that is over."""
        self.mux.drop(stream.key)
        self._streams.forget(stream.key)

    def forget_if_done(self, stream: LinkStream) -> None:
        """Both directions may have ended, and all be read: nothing more will be told about it."""
        if stream.done:
            self._streams.forget(stream.key)

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
        channel, deliver = self._channel, self._streams.deliver
        while True:
            now = trio.current_time()
            try:
                for record in channel.open(data, now) if data else ():
                    for event in self.mux.receive(record, now):
                        deliver(event)
            except HandshakeFailed:
                await self._part()
                raise
            if channel.rekeyed != self.rekeyed:
                self._renewed()
            if self.mux.wants_to_send or self._idle is not None or channel.wants_to_send:
                # Answers to pings, credit, resets.
                self.flush()
            data = bytes(await self._stream.receive_some(READ_BYTES))
            if not data:
                raise LinkClosed("the peer closed the connection")
            self.traffic.received_bytes += len(data)
            self._pulse.heard = True
            self.heard_at = trio.current_time()

    async def _write(self) -> None:
        while True:
            data = self._channel.seal(self.mux.records_to_send(FLUSH_BYTES))
            if data:
                await self._stream.send_all(data)
                self.traffic.sent_bytes += len(data)
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
            self.mux.ping(trio.current_time())
            self.flush()
            await trio.sleep(self._ping_s)
            self._pulse.beat()
            self._channel.tick(trio.current_time())

    async def _part(self) -> None:
        """A new handshake was refused: let the writer say why, if it has something to say, until the peer hangs up."""
        if not self._channel.wants_to_send:
            return
        self.flush()
        with trio.move_on_after(FAREWELL_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._stream.receive_some(READ_BYTES):
                # What was in flight: closing over unread bytes would make the kernel drop what we said.
                pass

    # What the Mux and the Channel tell.

    def told(self, event: Event) -> None:
        """Something that is about the link and none of its streams."""
        match event:
            case Ponged(rtt_s):
                self._pulse.ponged(rtt_s)
            case GoneAway():
                self.draining = self.parted = True

    def _renewed(self) -> None:
        self.rekeyed = self._channel.rekeyed
        self.traffic.rekeyed += 1
        self.membership = self._channel.membership
        logger.debug("a link has new keys", peer=self.peer.short, count=self.rekeyed)
        if self._on_renewed is not None:
            self._on_renewed(self)

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
        self._streams.end(reason)
        self._tell_if_idle()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
