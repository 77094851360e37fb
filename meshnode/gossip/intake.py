"""Judges adverts that arrive, the cheap checks first: mesh, order, rates, signature, and only then the table.

Not for forwarding them (machine.py). Refused means that no honest node sends this; merely unwanted is no refusal, but
remembered, so that the same is neither asked for nor judged again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode.errors import ProtocolViolation
from meshnode.gossip.events import Verdict
from meshnode.gossip.messages import Carried, Proof
from meshnode.gossip.neighbour import Neighbour
from meshnode.gossip.own import Own
from meshnode.gossip.proofs import Conviction, Proofs, contradiction, proof_of
from meshnode.gossip.table import Entry, Standing, State, Table
from meshnode.model.advert import Advert, SignedAdvert, unpack
from meshnode.model.ids import NodeId

MAX_TOMBSTONE_BYTES = 256
"""A tombstone says id, mesh and order, in at most 147 bytes beside its chain. One that says more would be kept for a
day."""

MAX_UNWANTED = 4096
"""Nodes remembered whose adverts were not wanted; the oldest is forgotten first, and judged again."""


REASONS = ("convicted", "rate", "checks", "unwanted", "equivocal", "broken")
"""Why an advert was not taken: its node contradicts itself or did with this one, says too much, its bringer has used up
its signature checks, it is no member here, no honest node sends it (whoever brought it is shut out)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of an advert: news to flood, the node whose view changed, a node found to contradict itself, and the
    proof that its bringer seems to lack."""

    news: Entry | None = None
    changed: NodeId | None = None
    convicted: Conviction | None = None
    lacks: Conviction | None = None


_NOTHING = Taken()


@dataclass(slots=True)
class Intake:
    """The way into `table` for adverts of others."""

    judge: Callable[[Advert, bytes, bytes], Verdict]
    own: Own
    table: Table
    proofs: Proofs
    unwanted: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    """The largest order of each node that was not wanted."""
    counts: Counter[str] = field(default_factory=Counter)
    """What became of adverts of others: "news", or one of REASONS. The same again, and older, is nothing to count."""

    def forget(self, node: NodeId) -> bool:
        """Drop what is known of `node` until it says something new. Whether anything living was dropped."""
        entry = self.table.get(node)
        if entry is None or node == self.own.me:
            return False
        self._unwanted(node, entry.order)
        self.table.drop(node)
        return entry.state is State.LIVING

    def take(self, frm: Neighbour, item: Carried, now: float) -> Taken:
        """Judge one advert that came over a link. Raises DecodeError or ProtocolViolation; nothing changed then."""
        held = self.table.holder(item.signed.body)
        if held is not None and not self.table.unlived(held, item.left_s, now):
            self.table.prolong(held, item.left_s, now)
            return _NOTHING
        advert = unpack(item.signed.body)
        if advert.mesh != self.own.mesh:
            raise ProtocolViolation("advert of another mesh")
        if advert.gone and len(item.signed.body) - len(advert.chain) > MAX_TOMBSTONE_BYTES:
            raise ProtocolViolation("tombstone that says too much")
        if advert.id == self.own.me:
            return self._mine(frm, advert, item, now)
        return self._other(frm, advert, item, now)

    def _mine(self, frm: Neighbour, advert: Advert, item: Carried, now: float) -> Taken:
        me = self.own.me
        # While it is put aside itself, nobody listens however it counts.
        if not self.own.foreign(advert.order) or self.proofs.held(me, now) is not None:
            return _NOTHING
        # Whoever it is in others' eyes, it signed this.
        if self._judged(frm, item.signed, advert, now) is None or self.own.overtake(advert.order, now):
            return _NOTHING
        other = self.own.contradict(advert.order)
        return self._convict(me, advert.order, proof_of(other, item.signed), now)

    def _other(self, frm: Neighbour, advert: Advert, item: Carried, now: float) -> Taken:
        node = advert.node
        if (conviction := self.proofs.held(node, now)) is not None:
            self.counts["convicted"] += 1
            return Taken(lacks=conviction)
        if advert.order <= self.unwanted.get(node, (-1, -1)):
            return _NOTHING
        standing = self.table.standing(advert, item.signed.body, item.left_s, now)
        if standing not in (Standing.NEWER, Standing.CONFLICT):
            return _NOTHING
        known = self.table.get(node)
        # Only good signatures are charged to a node: others cannot use up its budget.
        if known is not None and not known.rate.available(now):
            self.counts["rate"] += 1
            return _NOTHING
        verdict = self._judged(frm, item.signed, advert, now)
        if verdict is Verdict.UNWANTED:
            self.counts["unwanted"] += 1
            self._unwanted(node, advert.order)
        if verdict is not Verdict.GOOD:
            return _NOTHING
        if known is not None and standing is Standing.CONFLICT:
            self.counts["equivocal"] += 1
            return self._convict(node, advert.order, proof_of(known.signed, item.signed), now)
        changed = self.table.put(advert, item.signed, item.left_s, now)
        entry = self.table.entry(node)
        entry.rate.take(now)
        self.counts["news"] += 1
        return Taken(None if entry.state is State.OVER else entry, node if changed else None)

    def hear(self, frm: Neighbour, proof: Proof, now: float) -> Taken:
        """Judge a proof that came over a link. Raises DecodeError or ProtocolViolation; nothing changed then."""
        first, second = contradiction(proof, self.own.mesh)
        node = first.node
        if self.proofs.stale(node, first.order) or self.proofs.held(node, now) is not None:
            return _NOTHING
        verdicts = [
            self._judged(frm, signed, advert, now) for signed, advert in ((proof.first, first), (proof.second, second))
        ]
        if verdicts != [Verdict.GOOD, Verdict.GOOD]:
            return _NOTHING
        return self._convict(node, first.order, proof, now)

    def _convict(self, node: NodeId, order: tuple[int, int], proof: Proof, now: float) -> Taken:
        if self.proofs.stale(node, order):
            return _NOTHING
        conviction = self.proofs.convict(node, order, proof, now)
        entry = self.table.get(node)
        if entry is None or node == self.own.me:
            return Taken(convicted=conviction)
        self.table.drop(node)
        return Taken(changed=node if entry.state is State.LIVING else None, convicted=conviction)

    def _judged(self, frm: Neighbour, signed: SignedAdvert, advert: Advert, now: float) -> Verdict | None:
        """What the advert is worth; None when it could not be paid for. Not paying loses nothing: the next round of
        anti-entropy brings the advert again."""
        if not frm.checks.take(now):
            frm.starved = True
            self.counts["checks"] += 1
            return None
        verdict = self.judge(advert, signed.body, signed.signature)
        if verdict is Verdict.FORGED:
            raise ProtocolViolation("advert with a bad signature")
        return verdict

    def _unwanted(self, node: NodeId, order: tuple[int, int]) -> None:
        known = self.unwanted.pop(node, (-1, -1))
        self.unwanted[node] = max(known, order)
        if len(self.unwanted) > MAX_UNWANTED:
            del self.unwanted[next(iter(self.unwanted))]
