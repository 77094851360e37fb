"""The order in which servers are tried for a job: this node first while it is quick, then the better of two drawn by
lot, then the rest by score. Pure; requests.md §1.

Two drawn by weight 1/latency instead of the one that looks best, because everybody else sees the same best one.
Counterparts: eligible.py (who may), score.py (how good), refusal.py (what to say when nobody may).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import accumulate
from random import Random

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.errors import RequestError
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.view import View
from meshnode.routing.breaker import Breakers
from meshnode.routing.eligible import Candidate, Exclusion, LocalState, Offers, read_name, sift
from meshnode.routing.measure import Measurements
from meshnode.routing.path import Paths, Tree, same_view
from meshnode.routing.refusal import refusal
from meshnode.routing.score import Rating, Score, named, rate, size_of

_LEAST_LATENCY_S = 1e-3
_UNRELIABLE_TRIES = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One server to try. `model` is the name under which that node offers it; `path` begins with this node."""

    node: NodeId
    model: str
    path: tuple[NodeId, ...]
    score: Score


@dataclass(frozen=True, slots=True)
class Plan:
    """Attempts in order, why each other candidate was left out, and why the first is first. Where there is no attempt,
    `refusal` is the error to answer with."""

    attempts: tuple[Attempt, ...]
    exclusions: tuple[Exclusion, ...]
    reason: str
    refusal: RequestError | None = None


_Ranked = tuple[float, int, Rating, Candidate]
"""Score, place among the eligible (who are in the order of their ids), rating, candidate: sorts by score, ties by id,
so that the order of the input cannot matter."""


class Known:
    """What choosing keeps between decisions: measurements, breakers, and what was derived from the newest view."""

    def __init__(self, section: RoutingSection) -> None:
        self.paths = Paths(section.relay_penalty_s)
        self.measurements = Measurements(section)
        self.breakers = Breakers(section)
        self._offers: Offers | None = None
        self._view: View | None = None

    def offers(self, view: View) -> tuple[Tree, Offers]:
        """The ways and the offers of `view`, kept until the view changes."""
        tree = self.paths.tree(view)
        if self._offers is None or self._view is None or not same_view(view, self._view):
            self._offers = Offers(view, tree)
            self._view = view
        return tree, self._offers


class Planner:
    """Makes plans from what is known. Decides only; what is learnt comes back through router.py."""

    def __init__(self, known: Known, dispatch: DispatchSection, section: RoutingSection) -> None:
        self._known = known
        self._dispatch = dispatch
        self._section = section

    def plan(self, job: Job, view: View, local: LocalState, rng: Random, now: float) -> Plan:
        """Choose servers for `job`. Never raises: look at `refusal`. Depends on the view's content, not its order."""
        tree, offers = self._known.offers(view)
        asked = read_name(job.facts.model, view, offers)
        eligible, exclusions = sift(job, view.me, asked, tree, self._known.breakers, local, now)
        if not eligible:
            error = refusal(job.facts, view, asked, offers, exclusions, self._section.named_in_errors)
            return Plan((), tuple(exclusions), error.message, error)
        ranked = self._rank(job, eligible, local, now)
        ordered, reason = self._order(ranked, rng)
        attempts = tuple(self._attempts(ordered, tree, job.hops_left))
        return Plan(attempts, tuple(exclusions), reason)

    def _rank(self, job: Job, eligible: list[Candidate], local: LocalState, now: float) -> list[_Ranked]:
        ask = size_of(job.facts, self._section)
        records = {name: self._known.measurements.of(name) for name in {candidate.name for candidate in eligible}}
        ranked = []
        for place, candidate in enumerate(eligible):
            record = records[candidate.name].get(candidate.node)
            load = None if candidate.hops else local.models.get(candidate.name)
            rating = rate(candidate, record, ask, now, load)
            ranked.append((rating[0], place, rating, candidate))
        return ranked

    def _order(self, ranked: list[_Ranked], rng: Random) -> tuple[list[_Ranked], str]:
        """Servers in the order to try them, more than will be tried, and why the first is first."""
        mine = min((one for one in ranked if not one[3].hops), default=None)
        peers = ranked if mine is None else [one for one in ranked if one[3].hops]
        most = 1 + self._dispatch.retries
        rest = nsmallest(most + 3, ranked)
        if mine is not None:
            why = self._local_wins(named(mine[2]), peers)
            if why:
                return [mine, *self._draw(peers, rng), *rest], why
        drawn = self._draw(peers, rng)
        why = "the only server" if len(ranked) == 1 else "better of two servers" if len(drawn) > 1 else "the only peer"
        return [*drawn, *rest], why

    def _local_wins(self, mine: Score, peers: list[_Ranked]) -> str:
        """Why this node answers itself, or nothing. An engine that fails every other time has to be the quickest even
        with its failures counted: being free is no merit then."""
        if not peers:
            return "this node is the only server"
        wait_s = mine.terms.queue_s + mine.terms.cold_s
        if wait_s < self._dispatch.local_patience_s and mine.terms.tries < _UNRELIABLE_TRIES:
            return "this node, without waiting" if wait_s <= 0 else f"this node, after about {wait_s:.1f} s"
        best_s = min(one[2][1] for one in peers)
        if mine.predicted_s <= best_s * (1 + self._dispatch.local_margin):
            return "this node, as quick as the best peer"
        return ""

    def _draw(self, peers: Sequence[_Ranked], rng: Random) -> list[_Ranked]:
        """Two peers by lot, weighted by 1/latency, the lower score first. A small share of draws weighs all alike."""
        if len(peers) < 2:
            return list(peers)
        if rng.random() < self._section.explore:
            return rng.sample(peers, 2)
        weights = [1 / max(one[2][1], _LEAST_LATENCY_S) for one in peers]
        first = _pick(weights, rng)
        weights[first] = 0.0
        second = _pick(weights, rng)
        return sorted((peers[first], peers[second]))

    def _attempts(self, ordered: list[_Ranked], tree: Tree, hops_left: int) -> Iterator[Attempt]:
        """One attempt per node, as many as may be made."""
        nodes: set[NodeId] = set()
        for _, _, rating, candidate in ordered:
            reach = tree.reach(candidate.node, hops_left)
            if candidate.node in nodes or reach is None:
                continue
            nodes.add(candidate.node)
            yield Attempt(candidate.node, candidate.name, reach.path, named(rating))
            if len(nodes) > self._dispatch.retries:
                return


def _pick(weights: list[float], rng: Random) -> int:
    """An index by weight."""
    sums = list(accumulate(weights))
    return min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)
