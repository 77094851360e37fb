"""In which order eligible servers are tried: where a conversation is cached, this node while it is quick, else the
better of two drawn by lot, then the rest by score. Pure; requests.md §1.

Two drawn by weight 1/latency instead of the one that looks best, because everybody else sees the same best one. Not
for who may serve (eligible) nor how good each is (score).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from heapq import nsmallest
from itertools import accumulate
from math import log
from random import Random
from typing import NamedTuple

from meshnode.config.dispatch import DispatchSection
from meshnode.model.ids import NodeId
from meshnode.routing.affinity import NONE, Home, lot
from meshnode.routing.asked import Branch
from meshnode.routing.offers import Candidate
from meshnode.routing.score import Rating

_LEAST_LATENCY_S = 1e-3
_UNRELIABLE_TRIES = 2.0

OTHERS = 8
"""Servers ordered besides those to be tried, the best ones: for people who ask why."""

MEAN_LOADS = 1.5
EXTRA_LOAD = 4
"""A conversation leaves a server with more than this many times the mean of this node's own requests, and so many
more: bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018), loose enough that it hardly ever moves for nothing."""


class Ranked(NamedTuple):
    """Sorts by score, ties by place among the eligible (who are in the order of their ids), so that the order of the
    input cannot matter. `stands_for`: how many servers this one does, where not all were looked at."""

    value: float
    place: int
    rating: Rating
    candidate: Candidate
    branch: Branch
    stands_for: float = 1.0

    @property
    def predicted_s(self) -> float:
        """Expected time to the whole answer."""
        return self.rating[1]

    @property
    def tries(self) -> float:
        """Until one succeeds."""
        return self.rating[7]

    @property
    def outstanding(self) -> int:
        """This node's own requests there."""
        return self.rating[9]


class Ordered(NamedTuple):
    """Servers in the order to try them, more than will be tried and some twice; why the first is first; and what became
    of the conversation: "", "new", "kept", or why it leaves its server."""

    servers: list[Ranked]
    reason: str
    conversation: str


class Case(NamedTuple):
    """The request's side of an order: its conversation, where that was answered last, and the lots; `weighted` where
    entries have weights, or servers stand for others; `trial` are servers and models whose breakers wait for a
    probe."""

    conversation: int
    home: Home | None
    rng: Random
    explore: float
    weighted: bool
    trial: frozenset[tuple[NodeId, str]] = frozenset()


CACHED = "where this conversation's prompt is cached"

PROBED = "to see whether it works again after failing"


def order(ranked: list[Ranked], case: Case, section: DispatchSection) -> Ordered:
    """Order one tier, which is not empty."""
    if len(ranked) == 1 and case.home is None:
        return Ordered(ranked, _only(ranked[0]), "" if case.conversation == NONE else "new")
    most = section.retries + 4 + OTHERS
    rest = sorted(ranked) if len(ranked) <= most else nsmallest(most, ranked)
    home = _home(ranked, case.home)
    fate = "" if case.conversation == NONE else "new"
    if home is not None:
        why_not = moves(home, ranked)
        if not why_not:
            return Ordered([home, *rest], CACHED if len(ranked) > 1 else _only(home), "kept")
        fate = why_not
    elif case.home is not None:
        fate = "its server cannot take it now"
    peers = [one for one in ranked if one[3].hops]
    mine = min(one for one in ranked if not one[3].hops) if len(peers) < len(ranked) else None
    why = _local_wins(mine, peers, section) if mine is not None else ""
    drawn = _draw(peers, case)
    probed = _on_trial(peers, case.trial) if case.trial and len(ranked) > 1 else None
    if mine is not None and why:
        return Ordered([mine, *drawn, *rest], why, fate)
    if probed is not None:
        return Ordered([probed, *drawn, *rest], PROBED, fate)
    why = "the only server" if len(ranked) == 1 else "better of two servers" if len(drawn) > 1 else "the only peer"
    return Ordered([*drawn[:1], *rest], why, fate)


def moves(home: Ranked, ranked: Sequence[Ranked]) -> str:
    """Why a conversation leaves the server that has its prompt, or nothing."""
    if len(ranked) < 2:
        return ""
    if home.tries >= _UNRELIABLE_TRIES:
        return "its server fails"
    mean = sum(one[2][9] * one[5] for one in ranked) / sum(one[5] for one in ranked)
    if home.outstanding > MEAN_LOADS * mean + EXTRA_LOAD:
        return "its server has much more to do than the others"
    here_s = waits_s(home)
    if here_s <= 0:
        return ""
    fresh_s = min(waits_s(one) + one.rating[2] + one.rating[5] for one in ranked if one is not home)
    return "waiting at its server costs more than a fresh start elsewhere" if here_s > fresh_s else ""


def waits_s(one: Ranked) -> float:
    """How long a request would wait there before its prompt is read: for a slot, and for the model."""
    return one.rating[3] + one.rating[4]


def busy_s(one: Ranked) -> float:
    """The same without loading: a model that has to load is idle, not busy."""
    return one.rating[3]


def _only(one: Ranked) -> str:
    return "the only server" if one.candidate.hops else "this node is the only server"


def _home(ranked: Sequence[Ranked], home: Home | None) -> Ranked | None:
    if home is None:
        return None
    return next((one for one in ranked if one.candidate.node == home.node and one.candidate.name == home.model), None)


def _on_trial(peers: Sequence[Ranked], trial: frozenset[tuple[NodeId, str]]) -> Ranked | None:
    """The best of those to be probed. Another server follows in the order, so that a probe costs an attempt at most."""
    return min((one for one in peers if (one.candidate.node, one.candidate.name) in trial), default=None)


def _local_wins(mine: Ranked, peers: list[Ranked], section: DispatchSection) -> str:
    """Why this node answers itself, or nothing. An engine that fails every other time has to be the quickest even with
    its failures counted: being free is no merit then."""
    if not peers:
        return "this node is the only server"
    wait_s = mine.rating[3] + mine.rating[4]
    if wait_s < section.local_patience_s and mine.tries < _UNRELIABLE_TRIES:
        return "this node, without waiting" if wait_s <= 0 else f"this node, after about {wait_s:.1f} s"
    best_s = min(one.predicted_s for one in peers)
    if mine.predicted_s <= best_s * (1 + section.local_margin):
        return "this node, as quick as the best peer"
    return ""


def _draw(peers: Sequence[Ranked], case: Case) -> list[Ranked]:
    """Two peers by lot, weighted by 1/latency, the lower score first. A small share of draws weighs all alike.

    A conversation that is new draws with lots of its own instead of chance: should it come in at another node next
    time, that one thinks of the same servers.
    """
    if len(peers) < 2:
        return list(peers)
    rng = case.rng
    if rng.random() < case.explore:
        return [peers[place] for place in _two([one[5] for one in peers], rng)]
    peers = _worth_it(peers)
    if len(peers) < 2:
        return list(peers)
    if case.conversation != NONE and case.home is None:
        return sorted(one for _, one in nsmallest(2, zip(_arrivals(case.conversation, peers), peers, strict=True)))
    # By place instead of name: of a thousand, each look-up counts.
    weights = [1 / (s if (s := one[2][1]) > _LEAST_LATENCY_S else _LEAST_LATENCY_S) for one in peers]
    if case.weighted:
        weights = [weight * one[4].weight * one[5] for weight, one in zip(weights, peers, strict=True)]
    return sorted(peers[place] for place in _two(weights, rng))


def _worth_it(peers: Sequence[Ranked]) -> Sequence[Ranked]:
    """Without those where one waits for a slot, although somebody seems to have one and to be as quick."""
    free = [one for one in peers if one[2][3] <= 0.0]
    if not free or len(free) == len(peers):
        return peers
    best_s = min([one[2][1] for one in free])
    return [one for one in peers if one[2][3] <= 0.0 or one[2][1] < best_s]


def _arrivals(conversation: int, peers: Sequence[Ranked]) -> list[float]:
    """Exponential arrivals of rate `weight`: the first is each one's with a chance in proportion to its weight."""
    return [
        -log(lot(conversation, candidate.lot))
        * (s if (s := rating[1]) > _LEAST_LATENCY_S else _LEAST_LATENCY_S)
        / (branch.weight * stands_for)
        for _, _, rating, candidate, branch, stands_for in peers
    ]


def _two(weights: Sequence[float], rng: Random) -> tuple[int, int]:
    """Two places by weight; there are two at least."""
    sums, last = list(accumulate(weights)), len(weights) - 1
    first = min(bisect(sums, rng.random() * sums[-1]), last)
    # Among the others: past the first by its weight, if not before it.
    at = rng.random() * (sums[-1] - weights[first])
    if at >= sums[first] - weights[first]:
        at += weights[first]
    second = min(bisect(sums, at), last)
    if second == first:
        # Only by rounding, or where all other weights are nothing.
        second = first + 1 if first < last else first - 1
    return first, second
