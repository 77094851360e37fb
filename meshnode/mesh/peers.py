"""This node's links: dialled when the overlay wants them, accepted when others dial, one per pair, each run to its end.

Who to dial and when, and who is shut out, is the overlay machine's; who may link is identity's. Not for what travels on
links (gossiper.py, dispatch) nor for the handshake (net). Counterpart: the same module of the peer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from meshnode.errors import AlreadyLinked, ProtocolViolation, Tampered
from meshnode.gossip.crowd import crowded
from meshnode.gossip.overlay import Overlay
from meshnode.gossip.overlay_events import (
    Asked,
    AskToDial,
    Breached,
    Changed,
    Command,
    Condition,
    Dial,
    Event,
    Forgotten,
    Heard,
    Known,
    Linked,
    Look,
    Looked,
    Redial,
    Requested,
    Shed,
    Tick,
    Unlinked,
)
from meshnode.gossip.targets import Key
from meshnode.mesh.dials import Complaints, Connect, Dials, nobody_asks
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Check, Link
from meshnode.observe import log

logger = log.get("mesh")

STANDING_STREAMS = 4
"""Open on every link for its life: gossip's and the notices', one each way. A link with more is in use."""

DRAIN_LOOK_S = 0.5
"""Between looks at whether a link that is to end is still in use; the first also lets the goodbye out."""


@dataclass(slots=True)
class _Life:
    """A link that runs; cancelling `scope` ends it. `host`: where an accepted one came from; `dropped`: why this node
    ended it."""

    link: Link
    scope: trio.CancelScope
    since: float
    host: str
    dropped: str = ""


def _anybody(_: NodeId) -> str | None:
    return None


class Peers:
    """The table of links.

    `build` makes a Link of a pipe; `carry(link)` runs beside each link for its life; `changed()` is told of each
    change. `welcome(peer)` says in words why a peer may have no link, or None; `ask(peer)` asks a peer to dial us.
    """

    def __init__(
        self,
        overlay: Overlay,
        connect: Connect,
        build: Callable[[Authenticated], Link],
        carry: Callable[[Link], Awaitable[None]],
        changed: Callable[[], None],
        welcome: Callable[[NodeId], str | None] = _anybody,
        ask: Callable[[NodeId], Awaitable[None]] = nobody_asks,
    ) -> None:
        self._overlay = overlay
        self._build = build
        self._carry = carry
        self._changed = changed
        self._welcome = welcome
        self._lives: dict[NodeId, _Life] = {}
        self._complaints = Complaints(overlay.section.peers)
        self._dials = Dials(connect, ask, self.live, self._handle, self._complaints)
        self._woken = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.standing_streams = STANDING_STREAMS

    @property
    def links(self) -> dict[NodeId, Link]:
        """Live links by peer."""
        return {peer: life.link for peer, life in self._lives.items()}

    def link(self, peer: NodeId) -> Link | None:
        """The live link to one peer."""
        life = self._lives.get(peer)
        return life.link if life is not None else None

    def unless_linked(self, check: Check) -> Check:
        """Judges as `check` does, and raises AlreadyLinked for a peer that has a link: for dials to whoever is there.

        Before that one hears who asks: it would take this node for one that has lost its link, and end the old one. So
        anybody on the LAN could cut streams by a hint that leads to a peer.
        """

        def judge(payload: bytes, remote_static: bytes) -> tuple[NodeId, Any]:
            peer, membership = check(payload, remote_static)
            life = self._lives.get(peer)
            if life is not None and life.link.reason is None:
                raise AlreadyLinked(peer)
            return peer, membership

        return judge

    def known(self, adverts: Mapping[NodeId, Advert]) -> None:
        """The mesh's adverts changed: others may be worth dialling."""
        self._handle(Known(adverts))

    def changed(self, said: Mapping[NodeId, Advert | None]) -> None:
        """What these nodes say now, None for those whose adverts have ended; `known` came first."""
        self._handle(Changed(said))

    def requested(self, peer: NodeId) -> None:
        """A request of this node goes to `peer`: many over relays make a link of their own."""
        self._handle(Requested(peer))

    def heard(self, address: str) -> None:
        """A node of this mesh may be at `address`, as somebody on the LAN says."""
        self._handle(Heard(address))

    def asked(self, peer: NodeId) -> None:
        """`peer` asks to be dialled."""
        self._handle(Asked(peer))

    def redial(self, reason: str) -> None:
        """This machine is somewhere else now: peers that could not be reached are tried anew."""
        logger.info("peers are dialled anew", reason=reason)
        self._handle(Redial(reason))

    def forget(self, peer: NodeId) -> None:
        """Neither dial `peer` nor keep its addresses until it says something new. Its link, if any, stays."""
        self._handle(Forgotten(peer))

    def reached(self) -> tuple[tuple[NodeId, tuple[str, ...]], ...]:
        """Peers worth remembering with their addresses, the likeliest first."""
        return self._overlay.reached()

    def drop(self, peer: NodeId, reason: str) -> bool:
        """End the link to `peer` at once; whether there was one. Its streams end here and there."""
        life = self._lives.get(peer)
        if life is None:
            return False
        life.dropped = reason
        self._over(peer, life)
        life.scope.cancel()
        return True

    def breached(self, peer: NodeId, reason: str) -> None:
        """`peer` broke the protocol: its link ends, and it is shut out for a time."""
        now = trio.current_time()
        news = self._overlay.shut_out(peer, now) is None
        self._handle(Breached(peer))
        if news and (left_s := self._overlay.shut_out(peer, now)) is not None:
            advice = (
                "nothing: it is let in again by itself. If it goes on: one version on both nodes, or revoke the peer"
            )
            logger.warning(
                "a peer broke the protocol and is shut out", peer=peer.short, reason=reason, s=round(left_s), do=advice
            )
        self.drop(peer, reason)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dial when it is due. Returns only by cancellation, which ends the links dialled here."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                self._handle(Tick())
                wakeup = self._overlay.next_wakeup()
                self._woken = trio.Event()
                with trio.move_on_at(wakeup if wakeup is not None else float("inf")):
                    await self._woken.wait()

    async def live(self, found: Authenticated, target: Key | None = None) -> bool:
        """Keep a link over `found` for its life, unless the pair has a better one or the peer may have none.

        `target` is what was dialled, None for an accepted link. Returns, when it is over, whether the peer was taken.
        """
        peer = found.peer
        linked = Linked(peer, target, found.address, found.remote_host)
        if (reason := self._unwelcome(found)) is not None:
            self._complaints.refused(peer, reason)
            await trio.aclose_forcefully(found.stream)
            return False
        rival = self._lives.get(peer)
        if rival is not None and not self._replaces(found, rival):
            logger.debug("a second link to a peer is not needed", peer=peer.short)
            self._handle(linked)
            await trio.aclose_forcefully(found.stream)
            return True
        return await self._live(found, linked, rival)

    async def _live(self, found: Authenticated, linked: Linked, rival: _Life | None) -> bool:
        peer, link = found.peer, self._build(found)
        taken = False
        async with trio.open_nursery() as nursery:
            life = _Life(link, nursery.cancel_scope, trio.current_time(), found.remote_host)
            self._lives[peer] = life
            if rival is not None:
                rival.scope.cancel()
            try:
                await nursery.start(self._run, life)
                taken = True
                self._handle(linked)
                self._changed()
                logger.info("linked", peer=peer.short, dialled=link.initiator, at=found.address)
                await self._carry(link)
                # Without gossip the pair would know less and less of each other: dialled anew, it begins again.
                nursery.cancel_scope.cancel()
            finally:
                self._over(peer, life)
                if isinstance(link.reason, ProtocolViolation) and not isinstance(link.reason, Tampered):
                    self.breached(peer, str(link.reason))
        return taken

    async def _run(self, life: _Life, *, task_status: trio.TaskStatus[None]) -> None:
        await life.link.run(task_status=task_status)
        life.scope.cancel()

    def _over(self, peer: NodeId, life: _Life) -> None:
        if self._lives.get(peer) is not life:
            return
        del self._lives[peer]
        logger.info("unlinked", peer=peer.short, reason=life.dropped or str(life.link.reason or "closed"))
        self._handle(Unlinked(peer, parted=life.link.parted))
        self._changed()

    def _replaces(self, found: Authenticated, rival: _Life) -> bool:
        if rival.link.reason is not None:
            return True
        age_s = trio.current_time() - rival.since
        return self._overlay.replaces(found.peer, found.initiator, rival.link.initiator, age_s)

    def _unwelcome(self, found: Authenticated) -> str | None:
        """Why this peer gets no link now, in words."""
        left_s = self._overlay.shut_out(found.peer, trio.current_time())
        if left_s is not None:
            return f"it broke the protocol and is shut out for {left_s:.0f} s more"
        others = (life.host for peer, life in self._lives.items() if peer != found.peer)
        if self._overlay.section.trust == "psk-tofu" and crowded(others, found.remote_host):
            return f"too many members at once come from the network of {found.remote_host}"
        return self._welcome(found.peer)

    def _handle(self, event: Event) -> None:
        if self._nursery is None:
            # Nobody dials before `run`; whoever runs this tells what is known then.
            return
        for command in self._overlay.handle(event, trio.current_time()):
            self._perform(command, self._nursery)
        if not isinstance(event, Heard | Requested):
            # A hint is dialled now or when another dial ends; thousands of them are no reason to look at the clock.
            self._woken.set()

    def _perform(self, command: Command, nursery: trio.Nursery) -> None:
        match command:
            case Dial():
                nursery.start_soon(self._dials.dial, command)
            case AskToDial(peer):
                nursery.start_soon(self._dials.ask, peer)
            case Look():
                self._handle(Looked({peer: self._condition(life.link) for peer, life in self._lives.items()}))
            case Shed(peer, within_s):
                if (life := self._lives.get(peer)) is not None:
                    nursery.start_soon(self._shed, peer, life, within_s)

    def _condition(self, link: Link) -> Condition:
        return Condition(link.rtt_s, max(0, link.streams - self.standing_streams))

    async def _shed(self, peer: NodeId, life: _Life, within_s: float) -> None:
        """Part in peace: no new streams, and the link ends when those that run have."""
        life.link.goaway()
        with trio.move_on_after(within_s):
            await trio.sleep(DRAIN_LOOK_S)
            while life.link.reason is None and self._condition(life.link).streams:
                with trio.move_on_after(DRAIN_LOOK_S):
                    await life.link.drained()
        life.dropped = "this node has enough links"
        self._over(peer, life)
        life.scope.cancel()
