"""A stream of one link as a pipe for another: what a virtual link runs over, through nodes that see only ciphertext.

Closing says the end, so that a handshake's last words arrive; what a Pipe raises is what sockets raise. Not for opening
tunnels (mesh.tunnels). Counterpart: the Pipe at the tunnel's other end.
"""

from __future__ import annotations

from contextlib import suppress
from operator import index

import trio

from meshnode.errors import LinkError
from meshnode.mux import NO_ERROR
from meshnode.net.stream import LinkStream


class Pipe(trio.abc.Stream):
    """Bytes both ways over `stream`, whose heads have passed. The stream's credit is its only buffer."""

    def __init__(self, stream: LinkStream) -> None:
        self._stream = stream
        self._rest = b""
        self._sending = self._receiving = self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when all is queued. Raises BrokenResourceError when the tunnel is gone."""
        await self._write(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Until the other end, or the next relay, takes bytes."""
        await self._write(None)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived; b"" at the end. Raises BrokenResourceError when the tunnel is gone."""
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task reads this pipe")
        self._receiving = True
        try:
            if self._rest or self._closed or self._stream.unread:
                await trio.lowlevel.checkpoint()
            self._check_open()
            data = self._rest or await self._stream.receive_some()
        except LinkError as error:
            raise self._broken(error) from error
        finally:
            self._receiving = False
        size = len(data) if max_bytes is None else max_bytes
        self._rest = data[size:]
        return data[:size]

    async def aclose(self) -> None:
        """Say the end, behind what was sent, and take nothing more."""
        if not self._closed:
            self._closed = True
            self._rest = b""
            with trio.CancelScope(shield=True), suppress(LinkError):
                # Waits for nothing.
                await self._stream.finish()
            self._stream.reset(NO_ERROR)
        await trio.lowlevel.checkpoint()

    async def _write(self, data: bytes | None) -> None:
        """Send, or (None) wait until that might not wait."""
        if self._sending:
            raise trio.BusyResourceError("another task writes to this pipe")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_open()
            await (self._stream.wait_for_room() if data is None else self._stream.send(data))
        except LinkError as error:
            raise self._broken(error) from error
        finally:
            self._sending = False

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this pipe is closed")

    def _broken(self, error: LinkError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        """Whoever waits while this end closes must not think that the other end did."""
        if self._closed:
            return trio.ClosedResourceError("this pipe is closed")
        return trio.BrokenResourceError(str(error))
