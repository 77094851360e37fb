"""The relay's part of tunnels: passes bytes both ways between two neighbours and reads none of them.

Back-pressure is the streams' own credit: nothing is taken from one side before the other has taken what came before it.
Half-ends and resets cross. Not for judging who may open one (tunnels.py). Counterpart: the same class at the next hop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import HandshakeFailed, LinkError, StreamReset
from meshnode.mesh import exchange, opening
from meshnode.mesh.opening import Opening
from meshnode.model.ids import NodeId
from meshnode.mux.events import CANCEL
from meshnode.net import Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")

HOP_S = 1.0
"""For each hop to come, to open a tunnel: whoever is nearer to the end gives up first, and its reason arrives."""

SHARE = 2
"""One neighbour may have this part of a node's tunnels, and handshakes: whose they are is its word alone."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What tunnels need of the mesh around them.

    `link` gives the live link to a neighbour; `next_hop(target, passed, hops_left)` who is next on the way;
    `roles(node)` what a node may do, nothing for one that is no member; `relays()` why this node passes on nothing now,
    or None; `unwelcome(node)` why a node gets no link now, or None; `leaving(node)` whether it is shutting down.
    """

    me: NodeId
    link: Callable[[NodeId], Link | None]
    next_hop: Callable[[NodeId, Collection[NodeId], int], NodeId | None]
    roles: Callable[[NodeId], frozenset[str]]
    relays: Callable[[], str | None]
    unwelcome: Callable[[NodeId], str | None]
    leaving: Callable[[NodeId], bool]


@dataclass(eq=False, slots=True)
class _Spliced:
    """A tunnel through this node. `moved_at`: when bytes last came, from either side."""

    opening: Opening
    sender: NodeId
    moved_at: float
    bytes: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Relay:
    """Tunnels of others through this node."""

    def __init__(self, ground: Ground, section: MeshSection) -> None:
        self._ground = ground
        self._section = section
        self._running: set[_Spliced] = set()
        self._senders: Counter[NodeId] = Counter()
        self._origins: Counter[tuple[NodeId, NodeId]] = Counter()
        self._changed = trio.Event()
        self.carried = 0
        self._ended_bytes = 0

    def __len__(self) -> int:
        return len(self._running)

    @property
    def carried_bytes(self) -> int:
        """Bytes passed on since the start, both ways; `carried` counts their tunnels."""
        return self._ended_bytes + sum(spliced.bytes for spliced in self._running)

    async def drained(self) -> None:
        """Wait until nobody's tunnel passes here."""
        while self._running:
            await self._changed.wait()

    async def pass_on(self, link: Link, stream: LinkStream, asked: Opening) -> None:
        """Open the tunnel onward and carry it for its life. `asked` has been judged."""
        ground = self._ground
        reason = ground.relays() or self._full(link.peer, asked)
        hop = ground.next_hop(asked.target, asked.path, asked.hops_left) if reason is None else None
        onward = ground.link(hop) if hop is not None else None
        if onward is None:
            await exchange.refuse(stream, reason or f"{ground.me.short} knows no way to {asked.target.short}")
            return
        spliced = _Spliced(asked, link.peer, trio.current_time())
        self._count(spliced, 1)
        self._running.add(spliced)
        self.carried += 1
        try:
            with spliced.scope:
                await self._carry(stream, onward, spliced)
        finally:
            self._running.discard(spliced)
            self._ended_bytes += spliced.bytes
            self._count(spliced, -1)
            changed, self._changed = self._changed, trio.Event()
            changed.set()

    def sweep(self, now: float) -> None:
        """End the tunnels through which nothing comes any more."""
        for spliced in self._running:
            if now - spliced.moved_at > self._section.tunnel_idle_s:
                self._end(spliced, "nothing came through it")

    def review(self) -> None:
        """End those whose ends are members no more."""
        for spliced in self._running:
            asked = spliced.opening
            if "client" not in self._ground.roles(asked.origin) or not self._ground.roles(asked.target):
                self._end(spliced, "an end of it is no member any more")

    def _end(self, spliced: _Spliced, reason: str) -> None:
        asked = spliced.opening
        logger.debug("a tunnel is cut", origin=asked.origin.short, target=asked.target.short, reason=reason)
        spliced.scope.cancel()

    def _full(self, sender: NodeId, asked: Opening) -> str | None:
        most = self._section.tunnels
        if len(self._running) >= most or self._senders[sender] >= max(1, most // SHARE):
            return f"{self._ground.me.short} carries as many tunnels as it takes"
        if self._origins[sender, asked.origin] >= self._section.tunnels_per_origin:
            return f"{self._ground.me.short} carries as many tunnels of {asked.origin.short} as it takes"
        return None

    def _count(self, spliced: _Spliced, by: int) -> None:
        origin = (spliced.sender, spliced.opening.origin)
        self._senders[spliced.sender] += by
        self._origins[origin] += by
        if not self._origins[origin]:
            del self._origins[origin]
        if not self._senders[spliced.sender]:
            del self._senders[spliced.sender]

    async def _carry(self, stream: LinkStream, onward: Link, spliced: _Spliced) -> None:
        try:
            further, way = await reach(onward, spliced.opening.onward(self._ground.me))
        except LinkError as error:
            await exchange.refuse(stream, str(error))
            return
        try:
            await opening.accept(stream, way)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_copy, further, stream, spliced)
                await _copy(stream, further, spliced)
        finally:
            # Whoever cancelled this has told the near side; one that has ended loses nothing.
            further.reset(CANCEL)


async def reach(link: Link, onward: Opening) -> tuple[LinkStream, tuple[NodeId, ...]]:
    """Open a tunnel over `link` within the time that its hops may take. Raises LinkError."""
    seconds = HOP_S * (onward.hops_left + 2)
    with trio.move_on_after(seconds):
        return await opening.ask(link, onward)
    raise HandshakeFailed(f"{link.peer.short} opened no tunnel to {onward.target.short} within {seconds:g} s")


async def _copy(source: LinkStream, sink: LinkStream, spliced: _Spliced) -> None:
    """One direction, to its end or to the reset of either side, which the other side gets too."""
    try:
        while data := await source.receive_some():
            spliced.moved_at = trio.current_time()
            spliced.bytes += len(data)
            await sink.send(data)
        await sink.finish()
    except LinkError as error:
        code = error.code if isinstance(error, StreamReset) else CANCEL
        source.reset(code)
        sink.reset(code)
