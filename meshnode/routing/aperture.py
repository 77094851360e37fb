"""How many of very many servers one decision looks at: parts of them by lot, and the best of those it knew. Pure.

Two choices by lot need no look at everybody, and a thousand looks take a millisecond. Servers are parted by their ids
into parts of about a dozen, and whole parts are drawn, each as likely as any other; whoever is drawn stands in the lots
of order.py for those who were not. A new conversation draws with lots of its own, so that every entry node looks at the
same. Not for who may serve (eligible) nor for how good each is (score).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from heapq import nsmallest
from operator import attrgetter
from random import Random
from typing import NamedTuple

from meshnode.model.ids import NodeId
from meshnode.routing.affinity import NONE, lot
from meshnode.routing.asked import Asked, Branch
from meshnode.routing.offers import Candidate

WIDE = 128
"""Up to so many servers of a model all are looked at."""

SHARE = 32
"""So many are drawn of more, or a part more."""

WIDER = 4
"""So many times as many are drawn where of those before too few may serve."""

FEW = 16
"""Fewer servers that may serve are too few to choose from, if there are others that were not looked at."""

LEADERS = 16
"""The best of the last decision for a model, which the next one looks at again: quick servers are never overlooked, and
the first decision looks at all."""

FRESH = 8
"""The last that answered, of whom more is known than when they were chosen."""

CROWDS = 256
"""Models with very many servers of which the best are remembered."""


def is_wide(asked: Asked) -> bool:
    """Whether there are so many servers of a model that not all need be looked at."""
    return asked.most > WIDE


class Lots(NamedTuple):
    """How one decision draws: a conversation by its own lots where it is new, else by chance; `always` are looked at
    whatever is drawn."""

    conversation: int
    rng: Random
    always: Collection[NodeId]


class Aperture:
    """Narrows what is asked for to what one decision looks at, and learns from it who was best."""

    def __init__(self) -> None:
        self._crowds: dict[str, _Crowd] = {}

    def narrow(self, asked: Asked, lots: Lots, share: int) -> Asked:
        """The same with about `share` of each model's servers; `asked` itself where that is all of them."""
        tiers = tuple(tuple(self._part(branch, lots, share) for branch in tier) for tier in asked.tiers)
        before = (branch for tier in asked.tiers for branch in tier)
        if all(now is old for now, old in zip((branch for tier in tiers for branch in tier), before, strict=True)):
            return asked
        return replace(asked, tiers=tiers)

    def learn(self, model: str, best: Iterable[NodeId]) -> None:
        """Of the servers of `model` that were looked at these were the best, the best first."""
        crowd = self._crowds.get(model)
        if crowd is not None:
            crowd.leaders = tuple(dict.fromkeys((*best, *crowd.leaders)))[:LEADERS]

    def answered(self, model: str, node: NodeId) -> None:
        """A server was measured."""
        crowd = self._crowds.get(model)
        if crowd is not None:
            crowd.fresh = (node, *(one for one in crowd.fresh if one != node))[:FRESH]

    def _part(self, branch: Branch, lots: Lots, share: int) -> Branch:
        if len(branch.candidates) <= WIDE:
            return branch
        crowd = self._crowd(branch)
        many = -(-share * len(crowd.parts) // len(crowd.candidates))
        if not crowd.leaders or many >= len(crowd.parts):
            return branch
        leads = frozenset((*crowd.leaders, *crowd.fresh, *lots.always))
        places = {place for node in leads if (place := crowd.places.get(node)) is not None}
        places.update(crowd.own)
        for part in _drawn(len(crowd.parts), many, lots):
            places.update(crowd.parts[part])
        looked_at = [crowd.candidates[place] for place in sorted(places)]
        return replace(branch, candidates=looked_at, leads=leads, stands_for=len(crowd.parts) / many)

    def _crowd(self, branch: Branch) -> _Crowd:
        crowd = self._crowds.pop(branch.model, None)
        if crowd is None or crowd.candidates is not branch.candidates:
            crowd = _Crowd(branch.candidates, crowd)
        self._crowds[branch.model] = crowd
        while len(self._crowds) > CROWDS:
            del self._crowds[next(iter(self._crowds))]
        return crowd


class _Crowd:
    """The servers of one model, in the order of their ids; `parts`, `places` and `own` hold places in it."""

    __slots__ = ("_nodes", "candidates", "fresh", "leaders", "own", "parts", "places")

    def __init__(self, candidates: list[Candidate], before: _Crowd | None) -> None:
        self.candidates = candidates
        self.leaders: tuple[NodeId, ...] = before.leaders if before is not None else ()
        self.fresh: tuple[NodeId, ...] = before.fresh if before is not None else ()
        self.own = [place for place, one in enumerate(candidates) if not one.hops]
        self._nodes = list(map(attrgetter("node"), candidates))
        self.places: dict[NodeId, int]
        self.parts: list[list[int]]
        if before is not None and before._nodes == self._nodes:
            # Most changes of a mesh bring no server of a model and take none away.
            self.parts, self.places = before.parts, before.places
            return
        self.places = {node: place for place, node in enumerate(self._nodes)}
        self.parts = _parted(candidates)


def _parted(candidates: list[Candidate]) -> list[list[int]]:
    many = 1 << (len(candidates).bit_length() - 4)
    # By how many there are only roughly, so that two nodes that do not know quite the same part them alike.
    parts: list[list[int]] = [[] for _ in range(many)]
    for place, one in enumerate(candidates):
        parts[one.lot % many].append(place)
    return parts


def _drawn(parts: int, many: int, lots: Lots) -> list[int]:
    if lots.conversation == NONE:
        return lots.rng.sample(range(parts), many)
    return nsmallest(many, range(parts), key=[lot(lots.conversation, part + 1) for part in range(parts)].__getitem__)
