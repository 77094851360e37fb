"""Carries the gossip machine's messages over links: one outgoing stream per neighbour, frames of length and message.

The machine decides; this delivers, and wakes it when it asks. A neighbour that does not take its messages loses them
(anti-entropy brings them again) rather than holding memory. Not for links themselves (peers.py), which whoever is
handed the machine's verdicts on neighbours may close.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshnode.errors import LinkError
from meshnode.gossip.events import (
    Changed,
    Cleared,
    Convicted,
    Counted,
    Dead,
    Describe,
    Forget,
    Heard,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Reconsider,
    Reported,
    Send,
    Suspected,
    Tick,
    Trimmed,
    Violation,
)
from meshnode.gossip.facts import Facts
from meshnode.gossip.machine import Gossip
from meshnode.mesh.exchange import head_of
from meshnode.model.advert import Advert
from meshnode.model.codec import MAX_BYTES
from meshnode.model.ids import NodeId
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.gossip.events import Event
    from meshnode.net import Link, LinkStream

logger = log.get("mesh")

PATH = "/meshnode/gossip"

OUTBOX_BYTES = 1 << 20
"""Messages waiting for one neighbour; a whole table of 250 nodes fits."""

_LENGTH_BYTES = 4


class _Outbox:
    """Messages on their way to one neighbour. `link` tells one life of a neighbour from the next; `heard_at`: when its
    link had last brought something, as far as the machine knows."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard_at: float | None = None
        self.messages: deque[bytes] = deque()
        self.bytes = 0
        self.filled = trio.Event()
        self.heard = False
        """The neighbour's stream is being read."""

    def put(self, message: bytes) -> bool:
        if self.bytes + len(message) > OUTBOX_BYTES:
            return False
        self.messages.append(message)
        self.bytes += len(message)
        self.filled.set()
        return True

    async def take_all(self) -> bytes:
        await self.filled.wait()
        self.filled = trio.Event()
        data = b"".join(len(m).to_bytes(_LENGTH_BYTES, "big") + m for m in self.messages)
        self.messages.clear()
        self.bytes = 0
        return data


def _unheard(_: Link) -> float | None:
    return None


def _unasked(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is called, without waiting, with what the machine finds out about nodes.

    `dead(peer, reason)`: a neighbour is silent, its link is to end. `convicted(node, for_s)`: it said two things at
    once, and is to be shut out. `reported(node, facts)`: a neighbour told its load. `suspects()`: `suspected` changed.
    `counted(incarnation)`: this node's own is that from now on, and is durable when the call returns.
    """

    dead: Callable[[NodeId, str], object] = _unasked
    convicted: Callable[[NodeId, float], None] = _unasked
    reported: Callable[[NodeId, Facts], None] = _unasked
    suspects: Callable[[], None] = _unasked
    counted: Callable[[int], None] = _unasked


class Gossiper:
    """The shell of one Gossip machine.

    `changed` is called, without waiting, whenever a node's advert changed; `breached(peer, reason)` when a neighbour
    sent what no honest node sends. `heard_at(link)`: when a link last brought anything, on trio's clock.
    """

    def __init__(
        self,
        machine: Gossip,
        changed: Callable[[frozenset[NodeId]], None],
        breached: Callable[[NodeId, str], None],
        verdicts: Verdicts | None = None,
        heard_at: Callable[[Link], float | None] = _unheard,
    ) -> None:
        self._machine = machine
        self._changed = changed
        self._breached = breached
        self._verdicts = verdicts or Verdicts()
        self._heard_at = heard_at
        self._outboxes: dict[NodeId, _Outbox] = {}
        self._woken = trio.Event()
        self._came = trio.Event()
        self.counts: Counter[str] = Counter()
        """Commands by their names, gossip sent in bytes, and frames dropped."""

    def adverts(self) -> Mapping[NodeId, Advert]:
        """Living adverts, this node's included."""
        return self._machine.adverts(trio.current_time())

    @property
    def suspected(self) -> frozenset[NodeId]:
        """Neighbours whose links give no sign of life: nothing new should be sent there."""
        return self._machine.suspected

    def advert(self, node: NodeId) -> Advert | None:
        """One living node's."""
        return self._machine.advert(node)

    def describe(self, advert: Advert) -> None:
        """Say something new of this node; the machine numbers, signs and spreads it."""
        self._handle(Describe(advert))

    def leave(self) -> None:
        """Tell everyone that this node is going."""
        self._handle(Leave())

    def forget(self, node: NodeId) -> None:
        """Drop what is known of a node, until it says something new that is believed."""
        self._handle(Forget(node))

    def reconsider(self) -> None:
        """Who is believed has changed: judge again what was unwanted when it comes again."""
        self._handle(Reconsider())

    async def carry(self, link: Link) -> None:
        """Exchange gossip with the neighbour behind `link` until the link ends."""
        outbox = self._outboxes[link.peer] = _Outbox(link)
        self._handle(NeighbourUp(link.peer))
        came, self._came = self._came, trio.Event()
        came.set()
        try:
            stream = await link.request(head_of(PATH), end=False)
            while True:
                await stream.send(await outbox.take_all())
        except LinkError as error:
            logger.debug("gossip with a neighbour ended", peer=link.peer.short, reason=str(error))
        finally:
            if self._outboxes.get(link.peer) is outbox:
                del self._outboxes[link.peer]
                self._handle(NeighbourDown(link.peer))

    async def receive(self, link: Link, stream: LinkStream) -> None:
        """Read the neighbour's frames until its stream ends."""
        # Its first frames may be here before this end's `carry` is: they wait for it, as the machine knows no stranger.
        while (outbox := self._outboxes.get(link.peer)) is None or outbox.link is not link:
            await self._came.wait()
        if outbox.heard:
            # Each could hold back most of a frame.
            self._breached(link.peer, "a second stream of gossip on one link")
            return
        outbox.heard = True
        buffer = bytearray()
        while data := await stream.receive_some():
            buffer += data
            while len(buffer) >= _LENGTH_BYTES:
                size = int.from_bytes(buffer[:_LENGTH_BYTES], "big")
                if size > MAX_BYTES:
                    self._breached(link.peer, f"a gossip frame of {size} bytes")
                    return
                if len(buffer) < _LENGTH_BYTES + size:
                    break
                message = bytes(buffer[_LENGTH_BYTES : _LENGTH_BYTES + size])
                del buffer[: _LENGTH_BYTES + size]
                self._handle(Received(link.peer, message))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake the machine when it asks. Returns only by cancellation."""
        task_status.started()
        while True:
            wakeup = self._machine.next_wakeup()
            self._woken = trio.Event()
            with trio.move_on_at(wakeup if wakeup is not None else float("inf")):
                await self._woken.wait()
            self._tell_heard()
            self._handle(Tick())

    def _tell_heard(self) -> None:
        """Links that brought something of whatever kind live: before the machine thinks otherwise."""
        for peer, outbox in list(self._outboxes.items()):
            at = self._heard_at(outbox.link)
            if at != outbox.heard_at:
                outbox.heard_at = at
                self._handle(Heard(peer))

    def _handle(self, event: Event) -> None:
        for command in self._machine.handle(event, trio.current_time()):
            match command:
                case Send(to, data):
                    outbox = self._outboxes.get(to)
                    self.counts["sent_bytes"] += len(data)
                    if outbox is not None and not outbox.put(data):
                        self.counts["dropped"] += 1
                        logger.debug("a neighbour takes no gossip", peer=to.short)
                case Changed(ids):
                    self._changed(ids)
                case Violation(frm, reason):
                    self.counts["violation"] += 1
                    self._breached(frm, reason)
                case Suspected() | Cleared():
                    self.counts["suspected" if isinstance(command, Suspected) else "cleared"] += 1
                    self._verdicts.suspects()
                case Dead(node, reason):
                    self.counts["dead"] += 1
                    logger.info("a neighbour is silent", peer=node.short, reason=reason)
                    self._verdicts.dead(node, reason)
                case Reported(node, facts):
                    self._verdicts.reported(node, facts)
                case Convicted(node, until_s):
                    self.counts["convicted"] += 1
                    self._convicted(node, until_s - trio.current_time())
                case Counted(incarnation):
                    logger.warning(
                        "an advert of this node is not of this life: it counts on above it", incarnation=incarnation
                    )
                    self._verdicts.counted(incarnation)
                case Trimmed(models, neighbours):
                    logger.warning("the advert is full: not all is told", models=models, neighbours=neighbours)
        if not isinstance(event, Tick | Heard):
            self._woken.set()

    def _convicted(self, node: NodeId, for_s: float) -> None:
        mine = node == self._machine.me
        logger.warning(
            "a node signed two different adverts of one order",
            peer=node.short,
            mine=mine,
            shut_out_s=round(for_s),
            do="two machines run with one key: stop one of them, and give it a home of its own",
        )
        if not mine:
            self._verdicts.convicted(node, for_s)
