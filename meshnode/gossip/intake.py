"""Judges adverts that arrive, the cheap checks first: mesh, order, rates, signature, and only then the table.

Not for forwarding them (machine.py). Refused means that no honest node sends this; merely unwanted is no refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshnode.errors import ProtocolViolation
from meshnode.gossip.events import Equivocation
from meshnode.gossip.messages import Carried
from meshnode.gossip.neighbour import Neighbour
from meshnode.gossip.own import Own
from meshnode.gossip.table import Entry, Standing, State, Table
from meshnode.model.advert import Advert, unpack
from meshnode.model.ids import NodeId

MAX_TOMBSTONE_BYTES = 256
"""A tombstone says id, mesh and order, in at most 147 bytes. One that says more would be kept for a day."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of an advert: news to flood, the node whose view changed, a proof."""

    news: Entry | None = None
    changed: NodeId | None = None
    proof: Equivocation | None = None


_NOTHING = Taken()


@dataclass(slots=True)
class Intake:
    """The way into `table` for adverts of others."""

    verify: Callable[[NodeId, bytes, bytes], bool]
    own: Own
    table: Table

    def take(self, frm: Neighbour, item: Carried, now: float) -> Taken:
        """Judge one advert that came over a link. Raises DecodeError or ProtocolViolation; nothing changed then."""
        held = self.table.holder(item.signed.body)
        if held is not None and not self.table.unlived(held, item.left_s, now):
            self.table.prolong(held, item.left_s, now)
            return _NOTHING
        advert = unpack(item.signed.body)
        if advert.mesh != self.own.mesh:
            raise ProtocolViolation("advert of another mesh")
        if advert.gone and len(item.signed.body) > MAX_TOMBSTONE_BYTES:
            raise ProtocolViolation("tombstone that says too much")
        if advert.id == self.own.me:
            return self._mine(frm, advert, item, now)
        return self._other(frm, advert, item, now)

    def _mine(self, frm: Neighbour, advert: Advert, item: Carried, now: float) -> Taken:
        if advert.order >= self.own.order and self._checked(frm, item, advert, now):
            self.own.overtake(advert.order, now)
        return _NOTHING

    def _other(self, frm: Neighbour, advert: Advert, item: Carried, now: float) -> Taken:
        standing = self.table.standing(advert, item.signed.body, item.left_s, now)
        if standing not in (Standing.NEWER, Standing.CONFLICT):
            return _NOTHING
        known = self.table.get(advert.node)
        if known is not None:
            if standing is Standing.CONFLICT and known.accused:
                return _NOTHING
            # Only good signatures are charged to a node: others cannot use up its budget.
            if not known.rate.available(now):
                return _NOTHING
        if not self._checked(frm, item, advert, now):
            return _NOTHING
        if known is not None and standing is Standing.CONFLICT:
            known.accused = True
            return Taken(proof=Equivocation(known.node, known.signed, item.signed))
        changed = self.table.put(advert, item.signed, item.left_s, now)
        entry = self.table.entry(advert.node)
        entry.rate.take(now)
        return Taken(None if entry.state is State.OVER else entry, advert.node if changed else None)

    def _checked(self, frm: Neighbour, item: Carried, advert: Advert, now: float) -> bool:
        """Whether the signature could be paid for and is good. Not paying loses nothing: the next round of
        anti-entropy brings the advert again."""
        if not frm.checks.take(now):
            frm.starved = True
            return False
        if not self.verify(advert.node, item.signed.body, item.signed.signature):
            raise ProtocolViolation("advert with a bad signature")
        return True
