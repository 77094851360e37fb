"""A net of memory pipes between named hosts, so that whole nodes run in one process and in virtual time.

Hosts can be cut off from each other, silently as a broken network does, and joined again: bytes sent meanwhile arrive
then, as TCP would resend them. Not for simulating loss within a connection. Counterpart: mesh.member.Pipes.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio
from trio.testing import memory_stream_pair

from meshnode.mesh.pipes import Pipes

PORT = 6375


class VirtualPipe(trio.abc.Stream):
    """One end of a connection between two hosts of a VirtualNet."""

    def __init__(self, net: VirtualNet, here: str, there: str, inner: trio.abc.Stream) -> None:
        self.here = here
        self.there = there
        self._net = net
        self._inner = inner
        self._held = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Deliver, or hold while the hosts are cut off from each other."""
        if self._held or self._net.cut(self.here, self.there):
            await trio.lowlevel.checkpoint()
            self._held += data
        else:
            await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Memory takes everything."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived."""
        return bytes(await self._inner.receive_some(max_bytes))

    async def aclose(self) -> None:
        """The other end sees it, unless the hosts are cut off from each other."""
        if not self._net.cut(self.here, self.there):
            await self._inner.aclose()
        self._net.forget(self)

    async def flush(self) -> None:
        """The hosts see each other again: deliver what was held."""
        held, self._held = bytes(self._held), bytearray()
        if held:
            try:
                await self._inner.send_all(held)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._net.forget(self)


class VirtualListener(trio.abc.Listener[VirtualPipe]):
    """Accepts connections to one host."""

    def __init__(self) -> None:
        self.arrivals_in, self._arrivals = trio.open_memory_channel[VirtualPipe](1024)

    async def accept(self) -> VirtualPipe:
        """The next connection."""
        try:
            return await self._arrivals.receive()
        except trio.ClosedResourceError:
            raise
        except trio.EndOfChannel as error:
            raise trio.ClosedResourceError("the host is gone") from error

    async def aclose(self) -> None:
        """Nobody reaches this host any more."""
        self._arrivals.close()
        await trio.lowlevel.checkpoint()


class VirtualNet:
    """Hosts by name. Every host reaches every other until `partition`."""

    def __init__(self) -> None:
        self._listeners: dict[str, VirtualListener] = {}
        self._pipes: set[VirtualPipe] = set()
        self._sides: list[frozenset[str]] = []
        self._healed = trio.Event()

    def pipes(self, host: str, *, listens: bool = True) -> Pipes:
        """How a node on `host` reaches others; with `listens` others reach it as `host:6375`."""

        async def connect(name: str, port: int) -> trio.abc.Stream:
            return await self._connect(host, name, port)

        if not listens:
            return Pipes((), (), connect)
        listener = self._listeners[host] = VirtualListener()
        return Pipes((listener,), (f"{host}:{PORT}",), connect)

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut the hosts of each side off from those of every other. Nobody is told."""
        self._sides = [frozenset(side) for side in sides]

    async def heal(self) -> None:
        """Everybody reaches everybody again; what was sent meanwhile arrives."""
        self._sides = []
        for pipe in list(self._pipes):
            await pipe.flush()
        healed, self._healed = self._healed, trio.Event()
        healed.set()

    def unplug(self, host: str) -> None:
        """The host is gone: nobody reaches it by new connections."""
        self._listeners.pop(host, None)

    def cut(self, one: str, other: str) -> bool:
        """Whether two hosts are on different sides."""
        return any((one in side) != (other in side) for side in self._sides)

    def forget(self, pipe: VirtualPipe) -> None:
        """The pipe is closed."""
        self._pipes.discard(pipe)

    async def _connect(self, here: str, there: str, port: int) -> trio.abc.Stream:
        while self.cut(here, there):
            await self._healed.wait()
        listener = self._listeners.get(there)
        if listener is None or port != PORT:
            raise OSError(f"no host {there}:{port}")
        near, far = memory_stream_pair()
        pipe, counterpart = VirtualPipe(self, here, there, near), VirtualPipe(self, there, here, far)
        self._pipes |= {pipe, counterpart}
        try:
            await listener.arrivals_in.send(counterpart)
        except trio.BrokenResourceError as error:
            raise OSError(f"{there} is gone") from error
        return pipe
