"""Performs the overlay's dials, and says once of each peer what people must know when none comes about.

Not for when to dial whom (gossip.overlay), nor for the life of a link (peers.py, which makes one of this).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from meshnode.errors import AlreadyLinked, LinkError, LinkRefused
from meshnode.gossip.overlay_events import Dial, Event, Failed, Linked
from meshnode.gossip.targets import Key
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated
from meshnode.observe import log

logger = log.get("mesh")

Connect = Callable[[tuple[str, ...], NodeId | None], Awaitable[Authenticated]]
"""Dial addresses and shake hands with the node expected there (None: any member). Raises LinkError."""

MOST_TOLD = 1024
"""Peers whose refusal has been logged; more than that, and some are logged again."""


async def nobody_asks(_: NodeId) -> None:
    return None


class Complaints:
    """What was logged of peers, so that trying on fills no log. `named` are the peers of the configuration."""

    def __init__(self, named: Collection[str]) -> None:
        self._named = named
        self._missed: set[tuple[Key, bool]] = set()
        self._refused: dict[NodeId, str] = {}

    def reached(self, target: Key) -> None:
        """It can be dialled: the next time that it cannot is news."""
        self._missed -= {(target, False), (target, True)}

    def refused(self, peer: NodeId, reason: str) -> None:
        """A peer that dialled gets no link."""
        said = self._refused.pop(peer, None)
        while len(self._refused) >= MOST_TOLD:
            del self._refused[next(iter(self._refused))]
        # Seconds that are left are no other reason.
        self._refused[peer] = kind = "".join(c for c in reason if not c.isdigit())
        say = logger.debug if said == kind else logger.warning
        say("a peer's link is refused", peer=peer.short, reason=reason)

    def missed(self, dial: Dial, error: LinkError) -> None:
        """A peer could not be dialled."""
        # Whoever refuses this node in words says what people must know: a node revoked while it was off hears nothing
        # else. Once for each peer: trying goes on, and a log is not for every try.
        refused = isinstance(error, LinkRefused)
        kind = (dial.target, refused)
        told = (refused or dial.target in self._named) and kind not in self._missed
        if told and len(self._missed) < MOST_TOLD:
            self._missed.add(kind)
        remedy = "see what it says of this node" if refused else "see that it runs and that its address is right"
        advice = {"do": f"{remedy}; trying goes on"} if told else {}
        say = logger.warning if told else logger.debug
        say("a peer cannot be reached", at=dial.addresses, reason=str(error), **advice)


class Dials:
    """`connect` dials and shakes hands; `ask` asks a peer to dial us; `live` keeps the link for its life and says
    whether the peer was taken; `handle` gives the overlay its events."""

    def __init__(
        self,
        connect: Connect,
        ask: Callable[[NodeId], Awaitable[None]],
        live: Callable[[Authenticated, Key | None], Awaitable[bool]],
        handle: Callable[[Event], None],
        complaints: Complaints,
    ) -> None:
        self._connect = connect
        self._ask = ask
        self._live = live
        self._handle = handle
        self._complaints = complaints

    async def dial(self, dial: Dial) -> None:
        """Link to whoever answers there; the overlay hears how it went, and once it is over, that it is."""
        expected = dial.target if isinstance(dial.target, NodeId) else None
        try:
            found = await self._connect(dial.addresses, expected)
            self._complaints.reached(dial.target)
            if not await self._live(found, dial.target):
                self._handle(Failed(dial.target, found.peer))
        except AlreadyLinked as error:
            self._complaints.reached(dial.target)
            self._handle(Linked(NodeId(error.peer), dial.target, None, ""))
        except LinkError as error:
            self._complaints.missed(dial, error)
            self._handle(Failed(dial.target))
        except Exception as error:  # crash barrier: one link's fault is not its neighbours'
            log.crash(logger, "a dialled link crashed", error, addresses=dial.addresses)
            self._handle(Failed(dial.target))

    async def ask(self, peer: NodeId) -> None:
        """Ask a peer to dial this node; that it does is the answer."""
        try:
            await self._ask(peer)
        except Exception as error:  # crash barrier: one question's fault is not the links'
            log.crash(logger, "asking a peer to dial crashed", error, peer=peer.short)
