"""Virtual links: an ordinary link's handshake and streams over a tunnel through relays, kept while it is used.

`link` opens or finds one, `serve` is the door for those of others. A sealed peer is a link like any other but no
neighbour: no gossip and no notices go over it, and no advert names it. Not for bytes that pass (splice.py).
Counterpart: the same class at the other end. protocol.md §6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import trio

from meshnode.config.mesh import MeshSection
from meshnode.errors import DecodeError, HandshakeFailed, LinkError
from meshnode.mesh import exchange, opening
from meshnode.mesh.opening import Opening
from meshnode.mesh.splice import Ground, Relay, reach
from meshnode.mesh.threshold import Threshold
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Check, Link, LinkStream, Pipe, initiate, respond
from meshnode.noise import Initiator, Responder
from meshnode.observe import log
from meshnode.routing.seen import Seen
from meshnode.routing.tree import MOST_HOPS

logger = log.get("mesh")

SWEEP_S = 5.0
"""Between looks for tunnels that are not needed any more."""

SEEN = 4096
SEEN_S = 900.0
"""Openings remembered, so that none comes twice whatever its headers say: as many as a relay can open in the time that
jobs are remembered, several times over."""


class Door(Protocol):
    """This node's handshakes (mesh.doorway)."""

    def initiator(self) -> Initiator: ...

    def responder(self) -> Responder: ...

    @property
    def check(self) -> Check: ...


@dataclass(eq=False, slots=True)
class Sealed:
    """A virtual link. `way`: the nodes from this one to the peer, both included; `opened`: by this node; `used_at`:
    when a stream was last seen on it."""

    link: Link
    way: tuple[NodeId, ...]
    opened: bool
    used_at: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass(eq=False, slots=True)
class _Attempt:
    """A tunnel being opened: what came of it, once it is `done`, or why nothing did."""

    done: trio.Event = field(default_factory=trio.Event)
    life: Sealed | None = None
    error: str = "this node has left the mesh"


class Tunnels:
    """The virtual links of one membership. `build` makes a Link of a pipe; `barred(membership)` says why a peer that
    was believed is so no more, or None."""

    def __init__(
        self,
        ground: Ground,
        section: MeshSection,
        door: Door,
        build: Callable[[Authenticated], Link],
        barred: Callable[[Any], str | None],
    ) -> None:
        self._ground = ground
        self._section = section
        self._door = door
        self._build = build
        self._barred = barred
        self._lives: set[Sealed] = set()
        self._by_peer: dict[NodeId, Sealed] = {}
        self._attempts: dict[NodeId, _Attempt] = {}
        self._seen = Seen(SEEN, SEEN_S)
        self._threshold = Threshold(ground.me, section, self._served)
        self._nursery: trio.Nursery | None = None
        self.relay = Relay(ground, section)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep tunnels, and end those that are not needed. Returns only by cancellation, which ends those opened
        here."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    await trio.sleep(SWEEP_S)
                    self.sweep()
            finally:
                # Who asks from now on is told at once: nobody would open what they wait for.
                self._nursery = None

    @property
    def links(self) -> list[Link]:
        """Every virtual link that runs, whoever opened it."""
        return [life.link for life in self._lives]

    @property
    def lives(self) -> list[Sealed]:
        """The same with their ways, in the order of their peers."""
        return sorted(self._lives, key=lambda life: (life.link.peer, life.opened))

    def find(self, target: NodeId) -> Sealed | None:
        """The virtual link to `target` that may take another stream."""
        life = self._by_peer.get(target)
        if life is None or life.link.draining or any(map(self._ground.leaving, life.way[1:-1])):
            return None
        return life

    async def link(self, target: NodeId, first: NodeId | None = None, hops: int = MOST_HOPS) -> Sealed:
        """A virtual link to `target`: one that is up, else a new one by the neighbour `first` (None: whoever is next on
        the way) over at most `hops` links. Only one is being opened to a node; others wait for it.

        Raises LinkError with the words of whoever refused. Leaving does not end the opening.
        """
        life = self.find(target)
        if life is None:
            attempt = self._attempts.get(target) or self._begin(target, first, hops)
            await attempt.done.wait()
            life = attempt.life
            if life is None:
                raise HandshakeFailed(attempt.error)
        life.used_at = trio.current_time()
        return life

    async def serve(self, link: Link, stream: LinkStream) -> None:
        """Take a tunnel that a neighbour opens: for this node, or to be passed on. Raises LinkError."""
        try:
            asked = opening.read(await stream.head())
            reason = self._refusal(link.peer, asked)
        except DecodeError as error:
            reason = str(error)
        if reason is not None:
            await exchange.refuse(stream, reason)
        elif asked.target == self._ground.me:
            await self._welcome(link, stream, asked)
        else:
            await self.relay.pass_on(link, stream, asked)

    def review(self) -> None:
        """The papers changed: end what belongs to nodes that are believed no more."""
        for life in list(self._lives):
            if (reason := self._barred(life.link.membership)) is not None:
                self._end(life, reason)
        self.relay.review()

    def sweep(self) -> None:
        """End this node's virtual links that are not needed, those of peers that are shut out, and others' tunnels
        through which nothing comes."""
        now = trio.current_time()
        for life in list(self._lives):
            reason = self._ground.unwelcome(life.link.peer)
            if reason is None and life.link.streams:
                life.used_at = now
            elif reason is None and life.opened:
                reason = self._unneeded(life, now)
            if reason is not None:
                self._end(life, reason)
        self.relay.sweep(now)

    def goaway(self) -> None:
        """Tell the other ends to open no more streams."""
        for life in list(self._lives):
            life.link.goaway()

    def _unneeded(self, life: Sealed, now: float) -> str | None:
        """Why a virtual link without streams is not kept."""
        if self._ground.link(life.link.peer) is not None:
            return "there is a direct link now"
        if self.find(life.link.peer) is not life:
            return "it is replaced, or a relay on its way is leaving"
        if now - life.used_at > self._section.tunnel_idle_s:
            return "nobody used it"
        return None

    def _end(self, life: Sealed, reason: str) -> None:
        logger.debug("a tunnel is ended", peer=life.link.peer.short, reason=reason)
        self._forget(life)
        life.scope.cancel()

    def _choose(self, life: Sealed) -> None:
        """Let new streams to its peer take this one. Of two that were opened at once both ends keep the same, the lower
        id's: else each would end the one that the other has chosen."""
        peer = life.link.peer
        known = self.find(peer)
        lower_opens = self._ground.me < peer
        if known is None or (life.opened == lower_opens and known.opened != lower_opens):
            self._by_peer[peer] = life

    def _forget(self, life: Sealed) -> None:
        self._lives.discard(life)
        if self._by_peer.get(life.link.peer) is life:
            del self._by_peer[life.link.peer]

    # This node opens.

    def _begin(self, target: NodeId, first: NodeId | None, hops: int) -> _Attempt:
        ground = self._ground
        if (reason := ground.unwelcome(target)) is not None:
            raise HandshakeFailed(reason)
        if first is None:
            first = ground.next_hop(target, (), hops)
        neighbour = ground.link(first) if first is not None else None
        if neighbour is None or self._nursery is None:
            raise HandshakeFailed(f"there is no way to {target.short}")
        self._make_room()
        attempt = self._attempts[target] = _Attempt()
        asked = Opening(secrets.token_hex(16), ground.me, target, min(hops, MOST_HOPS), ())
        self._nursery.start_soon(self._open, neighbour, asked.onward(ground.me), attempt)
        return attempt

    def _make_room(self) -> None:
        """For one more; what has been unused longest goes. Raises HandshakeFailed where all are in use."""
        own = [life for life in self._lives if life.opened]
        if len(own) + len(self._attempts) < self._section.tunnels_kept:
            return
        unused = [life for life in own if not life.link.streams]
        if not unused:
            raise HandshakeFailed(f"{self._section.tunnels_kept} tunnels of this node are in use")
        self._end(min(unused, key=lambda life: life.used_at), "others are needed more")

    async def _open(self, neighbour: Link, asked: Opening, attempt: _Attempt) -> None:
        """Open one tunnel, and keep it for its life."""
        try:
            stream, way = await reach(neighbour, asked)
            found = await initiate(
                Pipe(stream), self._door.initiator(), self._door.check,
                timeout_s=self._section.handshake_timeout_s, expect=asked.target,
            )  # fmt: skip
            await self._live(found, way, attempt)
        except LinkError as error:
            attempt.error = str(error) or type(error).__name__
        except Exception as error:  # crash barrier: one tunnel's fault is not its neighbours'
            log.crash(logger, "a tunnel crashed", error, peer=asked.target.short)
            attempt.error = f"this end crashed: {type(error).__name__}"
        finally:
            self._settle(asked.target, attempt)

    def _settle(self, target: NodeId, attempt: _Attempt) -> None:
        """Whoever waits for this opening goes on."""
        if self._attempts.get(target) is attempt:
            del self._attempts[target]
        attempt.done.set()

    # Others open.

    def _refusal(self, sender: NodeId, asked: Opening) -> str | None:
        """Why a tunnel is not taken, whomever it is for."""
        ground = self._ground
        if asked.path[-1] != sender:
            return "the tunnel's path does not end with the node that sent it"
        if ground.me in asked.path:
            return f"the tunnel has been at {ground.me.short} before: a loop"
        if "client" not in ground.roles(asked.origin):
            return f"{asked.origin.short} may not ask this mesh: it lacks the role client"
        for relay in asked.path[1:]:
            if "relay" not in ground.roles(relay):
                return f"{relay.short} may not pass on what is others': it lacks the role relay"
        if not self._seen.first((asked.origin, asked.id, 0), trio.current_time()):
            return "this tunnel has been here before"
        return None

    async def _welcome(self, link: Link, stream: LinkStream, asked: Opening) -> None:
        """Be the other end. The handshake says who is there; relays have said who it should be."""
        ground, threshold = self._ground, self._threshold
        reason = ground.unwelcome(asked.origin) or threshold.full(link, asked.origin, trio.current_time())
        if reason is not None:
            await exchange.refuse(stream, reason)
            return
        way = (*asked.path, ground.me)
        with threshold.under_way(link.peer):
            await opening.accept(stream, way)
            found = await respond(
                Pipe(stream), self._door.responder(), partial(self._check, asked.origin),
                timeout_s=self._section.handshake_timeout_s,
            )  # fmt: skip
        await self._live(found, way[::-1], None)

    def _check(self, origin: NodeId, payload: bytes, static: bytes) -> tuple[NodeId, Any]:
        """Judge who came through a tunnel of `origin`: others may have come meanwhile. What is raised is told to the
        other end."""
        peer, membership = self._door.check(payload, static)
        if peer != origin:
            raise HandshakeFailed(f"{peer.short} came through a tunnel of {origin.short}")
        if (reason := self._threshold.crowded(peer)) is not None:
            raise HandshakeFailed(reason)
        return peer, membership

    def _served(self) -> list[NodeId]:
        return [life.link.peer for life in self._lives if not life.opened]

    async def _live(self, found: Authenticated, way: tuple[NodeId, ...], attempt: _Attempt | None) -> None:
        """Run a virtual link to its end. `attempt`: what this node opened it by, which is told when it is up. Raises
        HandshakeFailed."""
        if (reason := self._barred(found.membership)) is not None:
            # Since it began to shake hands.
            await trio.aclose_forcefully(found.stream)
            raise HandshakeFailed(reason)
        link = self._build(found)
        life = Sealed(link, way, attempt is not None, trio.current_time())
        self._lives.add(life)
        try:
            with life.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(link.run)
                    self._choose(life)
                    logger.debug("a tunnel is open", peer=found.peer.short, way=[node.short for node in way])
                    if attempt is not None:
                        attempt.life = life
                        self._settle(found.peer, attempt)
        finally:
            self._forget(life)
