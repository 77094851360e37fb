"""Who signed two adverts of one order: proved by the two, told to everybody, put aside for a time.

A proof is good for ever, so an order that was convicted once convicts nobody again: who mended a copied key is not
held down by replays. Not for checking signatures (intake.py) nor for closing links (mesh).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.config.gossip import GossipSection
from meshnode.errors import ProtocolViolation
from meshnode.gossip.messages import Proof, encode_message
from meshnode.model.advert import Advert, SignedAdvert, unpack
from meshnode.model.ids import NodeId

MAX_SERVED = 4096
"""Orders remembered that were convicted; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Conviction:
    """Put aside until `until`; `frame` is the proof as it travels."""

    node: NodeId
    until: float
    frame: bytes


@dataclass(slots=True)
class Proofs:
    """At most `section.convicts` nodes at once; one more, and the oldest conviction ends."""

    section: GossipSection
    _held: dict[NodeId, Conviction] = field(default_factory=dict)
    _served: dict[NodeId, tuple[int, int]] = field(default_factory=dict)

    def held(self, node: NodeId, now: float) -> Conviction | None:
        """The conviction of `node`, if it is put aside now."""
        if not self._held:
            return None
        found = self._held.get(node)
        if found is not None and found.until <= now:
            del self._held[node]
            return None
        return found

    def convict(self, node: NodeId, order: tuple[int, int], proof: Proof, now: float) -> Conviction:
        """Put `node` aside; the signatures are good, and `stale` says that this is new."""
        frame = encode_message(proof)
        made = Conviction(node, now + self.section.conviction_s, frame)
        self._held.pop(node, None)
        self._held[node] = made
        if len(self._held) > self.section.convicts:
            del self._held[next(iter(self._held))]
        self._served.pop(node, None)
        self._served[node] = order
        if len(self._served) > MAX_SERVED:
            del self._served[next(iter(self._served))]
        return made

    def stale(self, node: NodeId, order: tuple[int, int]) -> bool:
        """Whether `node` has been convicted for this order or a later one."""
        return order <= self._served.get(node, (-1, -1))


def proof_of(one: SignedAdvert, other: SignedAdvert) -> Proof:
    """The two in the order of their bytes: whoever finds them makes the same proof."""
    return Proof(*sorted((one, other), key=lambda signed: signed.body))


def contradiction(proof: Proof, mesh: bytes | None) -> tuple[Advert, Advert]:
    """The two adverts, if they contradict one another. Raises DecodeError or ProtocolViolation if they do not.
    Whether they are signed is still to be checked."""
    first, second = unpack(proof.first.body), unpack(proof.second.body)
    if mesh not in (first.mesh, second.mesh) or first.mesh != second.mesh:
        raise ProtocolViolation("proof about another mesh")
    if first.id != second.id or first.order != second.order or proof.first.body >= proof.second.body:
        raise ProtocolViolation("proof that proves nothing")
    return first, second
