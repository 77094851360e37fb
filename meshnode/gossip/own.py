"""What this node says of itself: when to say it anew, under which counter, and how to make it fit.

Not for spreading it (machine.py). Counterpart: whoever sends `Describe`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError
from meshnode.gossip.pace import Pace
from meshnode.gossip.rates import Bucket
from meshnode.model.advert import Advert, SignedAdvert, pack, unpack
from meshnode.model.ids import NodeId

LAST = 2**62
"""The largest counter an advert holds."""

_FIRST_SEQUENCES = 2**31
"""A life's sequences begin anywhere below. Whoever lost count of its starts may bear an incarnation again, and speaks
before anybody has shown it what it said in it: begun by lot, no two of these adverts bear one order. 4 bytes in CBOR.
"""

_OVERTAKINGS = 4
_OVERTAKING_S = 600.0
"""How often in a row a node counts on above what it finds of itself: as many earlier lives that it forgot. Whoever is
above it once more answers to what it says, so lives too."""

_REFUTATIONS = 2
_REFUTATION_S = 10.0
"""Adverts said because somebody suspects this node: each floods the mesh, and anybody may suspect."""

_KEPT_NEIGHBOURS = 8
"""An active view's worth (protocol.md §5, overlay): with these the mesh stays connected in every node's map."""


@dataclass(slots=True)
class Own:
    """This node's description, its counters and the time of its next advert."""

    me: NodeId
    section: GossipSection
    sign: Callable[[bytes], bytes]
    rng: random.Random
    incarnation: int
    sequence: int = field(init=False)
    left: bool = False
    _said: Advert | None = None
    _asked: Advert | None = None
    _told: Advert | None = None
    """What the last advert said, without its counters."""
    due: float | None = None
    """When the next advert is to be made."""
    _renewal: float = inf
    """When it is, though nothing has changed."""
    _pressed: bool = False
    """It is to be made whatever it says."""
    _pace: Pace = field(init=False)
    _first: int = field(init=False)
    """Sequences of this life in this incarnation are above it."""
    _rate: Bucket = field(init=False)
    _refutes: Bucket = field(default_factory=lambda: Bucket(_REFUTATIONS, _REFUTATION_S))
    _overtakes: Bucket = field(default_factory=lambda: Bucket(_OVERTAKINGS, _OVERTAKING_S))

    def __post_init__(self) -> None:
        self._begin(self.incarnation)
        self._pace = Pace(self.section.links_s, self.section.links_max_s)
        # The same budget that others grant: what is said within it is refused nowhere.
        self._rate = Bucket(self.section.advert_burst, self.section.advert_refill_s)

    @property
    def mesh(self) -> bytes | None:
        """The mesh this node belongs to; None before the first description."""
        return self._said.mesh if self._said is not None else None

    @property
    def order(self) -> tuple[int, int]:
        """The order of the newest advert made or overtaken."""
        return (self.incarnation, self.sequence)

    def describe(self, advert: Advert, now: float) -> tuple[int, int] | None:
        """Say this from now on; the first at once, a change within `settle_s`, but for links that change again and
        again. Returns how many models and neighbours had to be left out, None for none. Raises DecodeError for what no
        node would accept.
        """
        if advert.id != self.me or (self.mesh is not None and advert.mesh != self.mesh):
            raise DecodeError("an advert of another node or mesh")
        if self.left or advert == self._asked:
            return None
        said = replace(advert, incarnation=0, sequence=0, lifetime_s=max(1, int(self.section.lifetime_s)), gone=False)
        fitted = fit(said)
        self._asked = advert
        if fitted != self._said:
            self._said = fitted
            self._plan(now)
        lost = (len(said.models) - len(fitted.models), len(said.neighbours) - len(fitted.neighbours))
        return lost if any(lost) else None

    def advert(self, now: float) -> tuple[Advert, SignedAdvert] | None:
        """The next advert if it is due."""
        if self._said is None or self.due is None or self.due > now:
            return None
        self._rate.take(now)
        self.due = self._renewal = now + self.section.refresh_s * self.rng.uniform(0.9, 1.1)
        if self._told is not None and self._told.neighbours != self._said.neighbours:
            self._pace.told(now)
        self._told, self._pressed = self._said, False
        return self._make(self._said)

    def leave(self) -> tuple[Advert, SignedAdvert] | None:
        """The tombstone; None when nothing was ever said. Nothing is said after it."""
        if self._said is None or self.left:
            return None
        self.left, self.due = True, None
        lifetime_s = min(86_400, max(1, int(self.section.tombstone_s)))
        return self._make(Advert(self.me, self._said.mesh, 0, 0, lifetime_s, gone=True, chain=self._said.chain))

    def foreign(self, order: tuple[int, int]) -> bool:
        """Whether an advert of this node bears an order of which this life knows nothing, and which is not below it
        anyway: a counter was lost, or the key is used twice."""
        incarnation, sequence = order
        return incarnation > self.incarnation or (
            incarnation == self.incarnation and not self._first < sequence <= self.sequence
        )

    def overtake(self, order: tuple[int, int], now: float) -> bool:
        """Count on above `order`, which is foreign. False, and nothing, where that was done too often to help."""
        if not self._overtakes.take(now):
            return False
        if order[0] < LAST:
            # In a new incarnation: others may know later sequences of that one, and would take ours for older ones.
            self._begin(order[0] + 1)
        else:
            self.incarnation, self.sequence = order
            self._first = self.sequence
        self._press(now)
        return True

    def contradict(self, order: tuple[int, int]) -> SignedAdvert:
        """Say next to nothing under an order that somebody else has used with this node's key: with what was said
        there it proves that. Not to be spread as an advert. To be called once something was described."""
        assert self._said is not None
        bare = Advert(self.me, self._said.mesh, *order, lifetime_s=1, chain=self._said.chain)
        return self._signed(bare)

    def refute(self, order: tuple[int, int], now: float) -> bool:
        """A neighbour that knows the advert of `order` finds this node silent. Where only the link between them is, a
        newer advert shows that this node lives. Whether one is said."""
        if order < self.order or self.left or not self._refutes.take(now):
            return False
        self._press(now)
        return True

    def _begin(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.sequence = self._first = self.rng.randrange(_FIRST_SEQUENCES)

    def _make(self, said: Advert) -> tuple[Advert, SignedAdvert]:
        if self.sequence >= LAST:
            self._begin(self.incarnation + 1)
        self.sequence += 1
        advert = replace(said, incarnation=self.incarnation, sequence=self.sequence)
        return advert, self._signed(advert)

    def _signed(self, advert: Advert) -> SignedAdvert:
        body = pack(advert)
        return SignedAdvert(body, self.sign(body))

    def _plan(self, now: float) -> None:
        """Something else is to be said than before."""
        said, told = self._said, self._told
        assert said is not None
        if told is None:
            self._hurry(now, now)
        elif said == told:
            # What was lost is back before anybody heard of it.
            self.due = self.due if self._pressed else self._renewal
        elif replace(said, neighbours=told.neighbours) == told:
            self._hurry(self._pace.ready_at(now + self.section.settle_s), now)
        else:
            self._hurry(now + self.section.settle_s, now)

    def _press(self, now: float) -> None:
        self._pressed = True
        self._hurry(now, now)

    def _hurry(self, at: float, now: float) -> None:
        at = max(at, self._rate.ready_at(now))
        self.due = at if self.due is None else min(self.due, at)


def fit(advert: Advert) -> Advert:
    """The advert without what does not fit: first models that are not loaded, those listed last first; then
    neighbours past 8; then loaded models. Raises DecodeError when it is refused for more than its size.
    """
    while True:
        try:
            # Counters at their widest: what fits now fits always.
            unpack(pack(replace(advert, incarnation=LAST, sequence=LAST)))
            return advert
        except DecodeError:
            smaller = _smaller(advert)
            if smaller is None:
                raise
            advert = smaller


def _smaller(advert: Advert) -> Advert | None:
    models, neighbours = advert.models, advert.neighbours
    for index in range(len(models) - 1, -1, -1):
        if not models[index].loaded:
            return replace(advert, models=models[:index] + models[index + 1 :])
    if len(neighbours) > _KEPT_NEIGHBOURS or (neighbours and not models):
        return replace(advert, neighbours=neighbours[:-1])
    return replace(advert, models=models[:-1]) if models else None
