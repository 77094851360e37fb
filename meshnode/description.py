"""What this node says of itself: its advert, told anew whenever engines, proofs, its share or its speeds have changed.

Not for spreading it (gossip) nor for pages about it (presence.py). Counterpart: mesh.outlook of every other node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshnode.engine import Memory, memory
from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.names import same_model
from meshnode.model.takes import Takes
from meshnode.version import __version__

if TYPE_CHECKING:
    from meshnode.node import Node

FIRST_SPEED_S = 5.0
"""Between looks at whether a model was measured that never was before."""

MEMORY_S = 10.0
"""Between looks at free memory, for status pages."""


class Description:
    """Reads the node's rooms each time; `memory` is what was seen of the machine's last."""

    def __init__(self, node: Node, memory: Memory) -> None:
        self._node = node
        self._told: tuple[ModelOffer, ...] = ()
        self.memory = memory

    def offer(self, model: str) -> ModelOffer | None:
        """What the mesh was told of a model of this node's."""
        return next((offer for offer in self._told if same_model(model, offer.name)), None)

    def tell(self) -> None:
        """Tell the mesh what is true of this node now."""
        node, section = self._node, self._node.config.node
        offers = self._told = node.local.speeds.marked(node.proofs.marked(node.engines.advertised()))
        takes = node.local.share.takes
        advert = Advert(
            id=bytes(node.id),
            mesh=node.member.membership.mesh.id,
            incarnation=0,
            sequence=0,
            lifetime_s=1,
            name=node.name[:128],
            version=__version__,
            addresses=node.member.addresses,
            models=offers,
            posture=node.proofs.posture(offers),
            hardware=self.memory.hardware,
            owner=node.member.owner,
            price_micro_per_mtok=section.price_micro_per_mtok,
            watts=section.watts,
            relay=node.config.mesh.relay,
            draining=node.local.draining,
            owner_only=takes is Takes.OWN,
            paused=takes is Takes.NOBODYS,
        )
        node.member.describe(advert)

    async def run(self) -> None:
        """Keep up with what no room says by itself. Returns only by cancellation."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._retell)
            nursery.start_soon(self._watch_memory)

    async def _retell(self) -> None:
        """Speeds change with each answer, and are told no more often than an advert is renewed anyway; but the first of
        a model soon, because others know nothing of it before."""
        refresh_s = self._node.config.gossip.refresh_s
        told_at = trio.current_time()
        while True:
            await trio.sleep(min(FIRST_SPEED_S, refresh_s))
            speeds = self._node.local.speeds
            first = any(not offer.prefill_ms and speeds.of(offer.name).prefill_ms for offer in self._told)
            if first or trio.current_time() - told_at >= refresh_s:
                told_at = trio.current_time()
                self.tell()

    async def _watch_memory(self) -> None:
        """A driver may take tens of milliseconds to answer: in a thread, so that no stream waits for it."""
        while True:
            await trio.sleep(MEMORY_S)
            self.memory = await trio.to_thread.run_sync(memory)
