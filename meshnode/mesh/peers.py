"""This node's links: dialled when the overlay wants them, accepted when others dial, one per pair, each run to its end.

Who to dial and when, and who is shut out, is the overlay machine's; who may link is identity's. Not for what travels on
links (gossiper.py, dispatch) nor for the handshake (net). Counterpart: the same module of the peer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from meshnode.errors import LinkError, ProtocolViolation
from meshnode.gossip.crowd import crowded
from meshnode.gossip.overlay import Overlay
from meshnode.gossip.overlay_events import (
    Asked,
    AskToDial,
    Breached,
    Command,
    Dial,
    Event,
    Failed,
    Forgotten,
    Heard,
    Known,
    Linked,
    Redial,
    Tick,
    Unlinked,
)
from meshnode.gossip.targets import Key
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link
from meshnode.observe import log

logger = log.get("mesh")

Connect = Callable[[tuple[str, ...], NodeId | None], Awaitable[Authenticated]]
"""Dial addresses and shake hands with the node expected there (None: any member). Raises LinkError."""

MOST_TOLD = 1024
"""Peers whose refusal has been logged; more than that, and some are logged again."""


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


async def _nobody_asks(_: NodeId) -> None:
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
        ask: Callable[[NodeId], Awaitable[None]] = _nobody_asks,
    ) -> None:
        self._overlay = overlay
        self._connect = connect
        self._build = build
        self._carry = carry
        self._changed = changed
        self._welcome = welcome
        self._ask = ask
        self._lives: dict[NodeId, _Life] = {}
        self._missed: set[Key] = set()
        self._refused: dict[NodeId, str] = {}
        self._woken = trio.Event()
        self._nursery: trio.Nursery | None = None

    @property
    def links(self) -> dict[NodeId, Link]:
        """Live links by peer."""
        return {peer: life.link for peer, life in self._lives.items()}

    def link(self, peer: NodeId) -> Link | None:
        """The live link to one peer."""
        life = self._lives.get(peer)
        return life.link if life is not None else None

    def known(self, adverts: Mapping[NodeId, Advert]) -> None:
        """The mesh's adverts changed: others may be worth dialling."""
        self._handle(Known(adverts))

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
            self._say_refused(peer, reason)
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
                if isinstance(link.reason, ProtocolViolation):
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
        self._handle(Unlinked(peer))
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

    def _say_refused(self, peer: NodeId, reason: str) -> None:
        said = self._refused.pop(peer, None)
        while len(self._refused) >= MOST_TOLD:
            del self._refused[next(iter(self._refused))]
        # Seconds that are left are no other reason.
        self._refused[peer] = kind = "".join(c for c in reason if not c.isdigit())
        say = logger.debug if said == kind else logger.warning
        say("a peer's link is refused", peer=peer.short, reason=reason)

    def _handle(self, event: Event) -> None:
        if self._nursery is None:
            # Nobody dials before `run`; whoever runs this tells what is known then.
            return
        for command in self._overlay.handle(event, trio.current_time()):
            self._perform(command, self._nursery)
        if not isinstance(event, Heard):
            # A hint is dialled now or when another dial ends; thousands of them are no reason to look at the clock.
            self._woken.set()

    def _perform(self, command: Command, nursery: trio.Nursery) -> None:
        match command:
            case Dial():
                nursery.start_soon(self._dial, command)
            case AskToDial(peer):
                nursery.start_soon(self._ask_to_dial, peer)

    async def _dial(self, dial: Dial) -> None:
        expected = dial.target if isinstance(dial.target, NodeId) else None
        try:
            found = await self._connect(dial.addresses, expected)
            self._missed.discard(dial.target)
            if not await self.live(found, dial.target):
                self._handle(Failed(dial.target, found.peer))
        except LinkError as error:
            self._say_missed(dial, str(error))
            self._handle(Failed(dial.target))
        except Exception as error:  # crash barrier: one link's fault is not its neighbours'
            log.crash(logger, "a dialled link crashed", error, addresses=dial.addresses)
            self._handle(Failed(dial.target))

    def _say_missed(self, dial: Dial, reason: str) -> None:
        named = dial.target in self._overlay.section.peers and dial.target not in self._missed
        if named:
            # Once for each peer that was named: trying goes on, and a log is not for every try.
            self._missed.add(dial.target)
        advice = {"do": "see that it runs and that its address is right; trying goes on"} if named else {}
        say = logger.warning if named else logger.debug
        say("a peer cannot be reached", at=dial.addresses, reason=reason, **advice)

    async def _ask_to_dial(self, peer: NodeId) -> None:
        try:
            await self._ask(peer)
        except Exception as error:  # crash barrier: one question's fault is not the links'
            log.crash(logger, "asking a peer to dial crashed", error, peer=peer.short)
