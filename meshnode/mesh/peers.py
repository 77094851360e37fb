"""This node's links: dialled when the overlay wants them, accepted when others dial, one per pair, each run to its end.

Who to dial and when is the overlay machine's; who may link is identity's. Not for what travels on links (gossiper.py,
dispatch) nor for the handshake (net). Counterpart: the same module of the peer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from meshnode.errors import LinkError
from meshnode.gossip.overlay import Dial, Event, Failed, Known, Linked, Overlay, Tick, Unlinked
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link
from meshnode.observe import log

logger = log.get("mesh")

Connect = Callable[[tuple[str, ...], NodeId | None], Awaitable[Authenticated]]
"""Dial addresses and shake hands with the node expected there (None: any member). Raises LinkError."""


@dataclass(frozen=True, slots=True)
class _Life:
    """A link that runs; cancelling `scope` ends it."""

    link: Link
    scope: trio.CancelScope
    since: float


class Peers:
    """The table of links. `build` makes a Link of a pipe; `carry(link)` runs beside each link for its life; `changed()`
    is told of each change."""

    def __init__(
        self,
        overlay: Overlay,
        connect: Connect,
        build: Callable[[Authenticated], Link],
        carry: Callable[[Link], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._overlay = overlay
        self._connect = connect
        self._build = build
        self._carry = carry
        self._changed = changed
        self._lives: dict[NodeId, _Life] = {}
        self._missed: set[str] = set()
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

    async def live(self, found: Authenticated, address: str | None = None) -> None:
        """Keep a link over `found` for its life, unless the pair has a better one. `address` is the explicit one
        that was dialled."""
        peer = found.peer
        rival = self._lives.get(peer)
        if rival is not None and not self._replaces(found, rival):
            logger.debug("a second link to a peer is not needed", peer=peer.short)
            self._handle(Linked(peer, address))
            await trio.aclose_forcefully(found.stream)
            return
        link = self._build(found)
        async with trio.open_nursery() as nursery:
            life = self._lives[peer] = _Life(link, nursery.cancel_scope, trio.current_time())
            if rival is not None:
                rival.scope.cancel()
            try:
                await nursery.start(self._run, life)
                self._handle(Linked(peer, address))
                self._changed()
                logger.info("linked", peer=peer.short, dialled=link.initiator)
                await self._carry(link)
                # Without gossip the pair would know less and less of each other: dialled anew, it begins again.
                nursery.cancel_scope.cancel()
            finally:
                self._over(peer, life)

    async def _run(self, life: _Life, *, task_status: trio.TaskStatus[None]) -> None:
        await life.link.run(task_status=task_status)
        life.scope.cancel()

    def _over(self, peer: NodeId, life: _Life) -> None:
        if self._lives.get(peer) is not life:
            return
        del self._lives[peer]
        logger.info("unlinked", peer=peer.short, reason=str(life.link.reason or "closed"))
        self._handle(Unlinked(peer))
        self._changed()

    def _replaces(self, found: Authenticated, rival: _Life) -> bool:
        if rival.link.reason is not None:
            return True
        age_s = trio.current_time() - rival.since
        return self._overlay.replaces(found.peer, found.initiator, rival.link.initiator, age_s)

    def _handle(self, event: Event) -> None:
        if self._nursery is None:
            # Nobody dials before `run`; whoever runs this tells what is known then.
            return
        for dial in self._overlay.handle(event, trio.current_time()):
            self._nursery.start_soon(self._dial, dial)
        self._woken.set()

    async def _dial(self, dial: Dial) -> None:
        expected = dial.target if isinstance(dial.target, NodeId) else None
        try:
            found = await self._connect(dial.addresses, expected)
            self._missed -= {dial.target}
            await self.live(found, dial.target if isinstance(dial.target, str) else None)
        except LinkError as error:
            say = logger.debug
            if isinstance(dial.target, str) and dial.target not in self._missed:
                # Once for each peer that was named: trying goes on, and a log is not for every try.
                self._missed.add(dial.target)
                say = logger.warning
            say("a peer cannot be reached", at=dial.addresses, reason=str(error))
            self._handle(Failed(dial.target))
        except Exception as error:  # crash barrier: one link's fault is not its neighbours'
            log.crash(logger, "a dialled link crashed", error, addresses=dial.addresses)
            self._handle(Failed(dial.target))
