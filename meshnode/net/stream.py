"""One request and its answer on a link, from either end: what dispatch, gossip and tunnels hold.

Bytes that have arrived wait here, bounded by the stream's window; bytes to send wait in the Mux, bounded by credit and
by the link's write buffer. Not for frames (mux). Counterpart: the LinkStream at the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from meshnode.errors import LinkError, StreamReset
from meshnode.mux import CANCEL, NO_ERROR, Headers, StreamKey

if TYPE_CHECKING:
    from meshnode.net.link import Link

MAX_CHUNKS = 256
"""Chunks that wait apart before they are joined: a peer that sends single bytes would have each of them cost fifty."""


class LinkStream:
    """A stream of a link. Made by `Link.request`, or handed to the link's `on_open`.

    One task may read and one may write at a time. Leaving it unfinished is `reset`, or `aclose`, which resets what is
    not over. Methods raise StreamReset when the peer cancelled this stream, LinkClosed when the link is gone.
    """

    __slots__ = (
        "_chunks", "_ended", "_error", "_finished", "_flow", "_head", "_key", "_link", "_readable", "_writable",
        "cancel_scope", "fell_mute", "heard", "place", "said", "trailers",
    )  # fmt: skip

    def __init__(
        self, link: Link, key: StreamKey, *, finished: bool = False, cancel_scope: trio.CancelScope | None = None
    ) -> None:
        """`finished`: nothing follows the head. `cancel_scope`: who serves this stream, if the peer opened it.

        `heard` and `said` become true whenever something of this stream came or left; whoever watches over the stream
        sets them back (dispatch.leases). `place` is where the peer last said that what was asked waits in a queue;
        `fell_mute` is told once if it says that its engine is mute.
        """
        self._link = link
        self._key = key
        self._chunks: list[bytes] = []
        self._flow = 0
        self._head: Mapping[str, str] | None = None
        self._readable: trio.Event | None = None
        self._writable: trio.Event | None = None
        self._error: LinkError | None = None
        self._ended = False
        self._finished = finished
        self.cancel_scope = cancel_scope
        self.heard = self.said = False
        self.place = 0
        self.fell_mute: Callable[[], None] | None = None
        self.trailers: Mapping[str, str] = {}

    async def head(self) -> Mapping[str, str]:
        """Headers of the request (where the peer opened the stream) or of the answer, pseudo-headers included."""
        while self._head is None:
            await self._wait_readable()
        return self._head

    async def receive_some(self) -> bytes:
        """Everything that has arrived, at least one byte; b"" at the true end. Bytes that came before a reset or the
        link's end are given first."""
        if self._chunks:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not self._chunks:
            if self._ended:
                if self._flow:
                    # Padding alone: it was never given out.
                    self._flow = 0
                    self._link.drop(self)
                await trio.lowlevel.checkpoint()
                return b""
            await self._wait_readable()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._link.credit(self._key, self._flow)
        self._flow = 0
        if self._ended or self._error is not None:
            self._link.forget_if_done(self)
        return data

    async def send_head(self, headers: Headers) -> None:
        """Head of the answer to a stream the peer opened; goes out with what follows. Raises BadRequest too."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_writing()
        self._link.mux.send_head(self._key, headers)
        self._link.flush()

    async def send(self, data: bytes) -> None:
        """Queue bytes; returns when the peer's credit and the link's write buffer had room for all of them.

        Without any for `credit_timeout_s`, the stream is reset.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        rest: bytes | memoryview = data
        while rest:
            self._check_writing()
            link_room = self._link.room()
            room = min(self._link.mux.window(self._key), link_room)
            if room >= len(rest):
                self.said = True
                self._link.mux.send(self._key, bytes(rest))
                self._link.flush()
                return
            if room > 0:
                self.said = True
                self._link.mux.send(self._key, bytes(rest[:room]))
                self._link.flush()
                rest = memoryview(rest)[room:]
            await self._wait_writable(for_link=room >= link_room)

    async def wait_for_room(self) -> None:
        """Until `send` could queue a byte at once. Raises what it raises."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check_writing()
            link_room = self._link.room()
            room = min(self._link.mux.window(self._key), link_room)
            if room > 0:
                return
            await self._wait_writable(for_link=room >= link_room)

    def pad(self) -> None:
        """From now on the sizes of what is sent show only in classes of 256 bytes (RFC 9113 §6.1). Raises what `send`
        raises."""
        self._check_writing()
        self._link.mux.pad(self._key)

    def beat(self, place: int = 0, *, mute: bool = False) -> None:
        """Tell the peer that its request is being worked at, or waits at a `place` in a queue, or for an engine that is
        `mute`. Waits for nothing, and a stream that is over has nobody to be told."""
        if self._error is None and not self._finished and self._link.reason is None:
            self._link.mux.beat(self._key, place, mute=mute)
            self._link.flush()

    async def finish(self, trailers: Headers = ()) -> None:
        """Nothing more will be sent; `trailers` follow what was. Does not wait until it has left."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_writing()
        self._link.mux.finish(self._key, trailers)
        self._finished = True
        self._link.flush()
        self._link.forget_if_done(self)

    def reset(self, code: int = CANCEL) -> None:
        """Cancel: the peer's side of this stream is cancelled too. One that is over only loses what was not read."""
        self._chunks.clear()
        self._flow = 0
        if self.over:
            # Its end may still wait to be sent.
            self._link.drop(self)
            return
        self._error = StreamReset("this side has cancelled the stream", code)
        self._finished = True
        self._link.reset(self, code)
        self._wake()

    async def aclose(self) -> None:
        """Reset what is not over. After it nobody waits for this stream."""
        self.leave(CANCEL)
        await trio.lowlevel.checkpoint()

    def leave(self, code: int) -> None:
        """`aclose` without its checkpoint, with the code for an answer that was not finished."""
        # RFC 9113 §8.1: whoever has answered in full and needs no more of the request says so with NO_ERROR.
        answered = self._finished and self.cancel_scope is not None
        self.reset(NO_ERROR if answered else code)

    @property
    def key(self) -> StreamKey:
        """Its name in the Mux."""
        return self._key

    @property
    def unread(self) -> bool:
        """Whether bytes are here that nobody has taken."""
        return bool(self._chunks)

    @property
    def over(self) -> bool:
        """Whether both directions have ended, or the stream was reset."""
        return self._error is not None or (self._ended and self._finished)

    @property
    def done(self) -> bool:
        """Whether it is over and everything that came has been read."""
        return self.over and not self._flow

    @property
    def answered(self) -> bool:
        """Whether the peer has sent all it had to send."""
        return self._ended

    # What the link's reader tells; none of these waits.

    def arrived_head(self, headers: Headers) -> None:
        """The head came."""
        self._head = dict(headers)
        self.heard, self.place = True, 0
        self._wake_reader()

    def arrived_beat(self, place: int, mute: bool) -> None:
        """A sign of life came."""
        self.heard, self.place = True, place
        if mute and self.fell_mute is not None:
            tell, self.fell_mute = self.fell_mute, None
            tell()

    def arrived(self, data: bytes, flow: int) -> None:
        """Bytes came; `flow` is what they cost of the window."""
        self._flow += flow
        self.heard = True
        if data:
            if len(self._chunks) >= MAX_CHUNKS:
                self._chunks = [b"".join(self._chunks)]
            self._chunks.append(data)
            self._wake_reader()

    def arrived_trailers(self, headers: Headers) -> None:
        """Trailers came; the end follows."""
        self.trailers = dict(headers)

    def arrived_end(self) -> None:
        """The peer has sent all."""
        self._ended = True
        self._wake_reader()

    def failed(self, error: LinkError) -> None:
        """The stream was reset or its link is gone: whoever waits is told, whoever serves it is cancelled."""
        if self._error is None and not self.over:
            self._error = error
        self._wake()
        if self.cancel_scope is not None:
            self.cancel_scope.cancel()

    def cut(self, error: LinkError) -> None:
        """What came and was not read is lost: even one that had ended well is not whole now."""
        self._chunks.clear()
        self._flow = 0
        self._ended = False
        self._error = self._error or error
        self.failed(error)

    def credited(self) -> None:
        """There may be room to send."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _check_writing(self) -> None:
        if self._error is not None:
            raise _anew(self._error)
        if self._finished:
            raise StreamReset("this side has finished the stream", NO_ERROR)

    async def _wait_readable(self) -> None:
        if self._error is not None:
            raise _anew(self._error)
        if self._ended:
            raise StreamReset("the stream ended without a head")
        if self._readable is None:
            self._readable = trio.Event()
        await self._readable.wait()

    async def _wait_writable(self, *, for_link: bool) -> None:
        """Until the peer gives credit, or (`for_link`) until the writer has made room."""
        self._writable = trio.Event()
        if for_link:
            self._link.waits_to_write(self)
        with trio.move_on_after(self._link.credit_timeout_s) as waiting:
            await self._writable.wait()
        if waiting.cancelled_caught:
            self.reset(CANCEL)
            raise StreamReset(f"nobody took a byte of the stream for {self._link.credit_timeout_s:g} s", CANCEL)

    def _wake_reader(self) -> None:
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    def _wake(self) -> None:
        self._wake_reader()
        self.credited()


def _anew(error: LinkError) -> LinkError:
    """An exception of its own for each who asks: a raised one carries its raiser's traceback."""
    return StreamReset(str(error), error.code) if isinstance(error, StreamReset) else type(error)(str(error))
