"""One decision: what is asked for, who may serve it, in which order they are tried, and why. Pure; requests.md §1.

Counterparts: asked.py (the name), eligible.py (who may), score.py (how good), order.py (who first), refusal.py (what to
say when nobody may), explain.py (all of it for people).
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.errors import RequestError
from meshnode.model.ids import NodeId
from meshnode.model.job import NO_DEMANDS, Job, Label
from meshnode.model.view import View
from meshnode.routing.affinity import NONE, Home, conversation_of
from meshnode.routing.aliases import Aliases
from meshnode.routing.aperture import FEW, SHARE, WIDER, Lots, is_wide
from meshnode.routing.asked import Asked
from meshnode.routing.eligible import Asking, LocalState, Tier, many, sift
from meshnode.routing.known import Known
from meshnode.routing.offers import Exclusion
from meshnode.routing.order import OTHERS, Case, Ordered, Ranked, busy_s, order
from meshnode.routing.refusal import refusal
from meshnode.routing.score import Score, named, rate, size_of
from meshnode.routing.tree import Tree


class Attempt(NamedTuple):
    """One server to try. `model` is the name under which that node offers it; `path` begins with this node. `bound`:
    another server of the same model would not do as well, so relays may not choose. `conversation` is a hash."""

    node: NodeId
    model: str
    path: tuple[NodeId, ...]
    score: Score
    bound: bool = False
    conversation: int = 0


class Plan(NamedTuple):
    """Attempts in order, why each other candidate was left out, and why the first is first. Where there is no attempt,
    `refusal` is the error to answer with.

    Small enough to be kept for every request, but for `exclusions` and `ranked`: `others` are the best of those not to
    be tried, out of `eligible` in all, who are `ranked` by tier where they are more; `left_out` counts the exclusions,
    `unseen` those that were not looked at, there being so many. `model` is the name as it was understood, `label` what
    the request travels under, `tier` the tier of an alias that was taken (counted from 1; 0 without one),
    `conversation` "", "new", "kept", or why it moves.
    """

    attempts: tuple[Attempt, ...]
    exclusions: tuple[Exclusion, ...]
    reason: str
    refusal: RequestError | None = None
    others: tuple[Attempt, ...] = ()
    eligible: int = 0
    model: str = ""
    label: Label = Label.INTERNAL
    tier: int = 0
    conversation: str = ""
    left_out: int = 0
    unseen: int = 0
    ranked: tuple[list[Ranked], ...] = ()


class _Request(NamedTuple):
    """One request and all that its decision needs of the moment."""

    job: Job
    asked: Asked
    conversation: int
    home: Home | None
    tree: Tree
    local: LocalState
    rng: Random
    now: float


class _Found(NamedTuple):
    """By tier who may serve, in time if any may; why the others may not; how many were not looked at."""

    tiers: list[list[Ranked]]
    exclusions: list[Exclusion]
    unseen: int


class Planner:
    """Makes plans from what is known. Decides only; what is learnt comes back through router.py."""

    def __init__(self, known: Known, aliases: Aliases, dispatch: DispatchSection, section: RoutingSection) -> None:
        self._known = known
        self._aliases = aliases
        self._dispatch = dispatch
        self._section = section

    def plan(
        self, job: Job, view: View, local: LocalState, rng: Random, now: float, *, everybody: bool = False
    ) -> Plan:
        """Choose servers for `job`. Never raises: look at `refusal`. Depends on the view's content, not its order."""
        job = self._aliases.constrain(job)
        known = self._known
        tree, offers = known.offers(view, now)
        asked = known.asked(job.facts.model, view, offers, self._aliases)
        conversation = conversation_of(job)
        home = known.affinity.home(conversation, now) if conversation else None
        request = _Request(job, asked, conversation, home, tree, local, rng, now)
        found = self._search(request, Asking(job, view.me, job.owner or offers.owner, offers.owner), everybody)
        if not found.tiers:
            most, aliases = self._section.named_in_errors, self._aliases.rules
            lately = () if asked.candidates else known.lately.servers(asked.model, now)
            error = refusal(job.facts, view, asked, offers, found.exclusions, most, aliases, lately)
            return _refused(error, found.exclusions, job, asked)
        return self._made(request, found)

    def _search(self, request: _Request, asking: Asking, everybody: bool) -> _Found:
        """Look at some, and at more and more until there are enough who may serve."""
        share = 0 if everybody else SHARE
        while True:
            seen = self._narrowed(request, share) if share else request.asked
            able, exclusions, broken = sift(
                asking, seen, request.tree, self._known.breakers, request.local, request.now
            )
            if seen is not request.asked and (broken or many(able) < FEW):
                share *= WIDER
                continue
            ranked = [self._rank(request, tier) for tier in able]
            tiers, late = _in_time(ranked, request.job.deadline - request.now)
            if seen is request.asked:
                return _Found(tiers, exclusions + late, 0)
            if late is not _ALL:
                return _Found(tiers, exclusions + late, len(request.asked.candidates) - len(seen.candidates))
            share = 0

    def _narrowed(self, request: _Request, share: int) -> Asked:
        if not is_wide(request.asked):
            return request.asked
        home, target = request.home, request.job.target
        always = [node for node in (home.node if home is not None else None, target) if node is not None]
        lots = Lots(request.conversation if home is None else NONE, request.rng, always)
        return self._known.aperture.narrow(request.asked, lots, share)

    def _made(self, request: _Request, found: _Found) -> Plan:
        job, asked, tiers = request.job, request.asked, found.tiers
        number = _tier(tiers, asked.rule.spill_after_s) if asked.rule is not None else 0
        tier, breakers, wide = tiers[number], self._known.breakers, is_wide(asked)
        trial = breakers.on_trial({one.candidate.name for one in tier}, request.now) if len(breakers) else frozenset()
        weighted = asked.rule is not None or found.unseen > 0
        case = Case(request.conversation, request.home, request.rng, self._section.explore, weighted, trial)
        first = order(tier, case, self._dispatch)
        if wide:
            self._learn(first.servers)
        servers = first.servers if len(tiers) == 1 else [*first.servers, *_further(tiers, number)]
        most = max(1 + self._dispatch.retries, job.wishes.fanout)
        made = self._attempts(servers, request, most + OTHERS)
        eligible = sum(map(len, tiers))
        return Plan(
            tuple(made[:most]),
            tuple(found.exclusions),
            _why(first, asked, number),
            None,
            tuple(made[most:]),
            eligible,
            asked.model,
            job.label,
            number + 1 if asked.rule is not None else 0,
            first.conversation,
            len(found.exclusions),
            found.unseen,
            tuple(tiers) if eligible > len(made) else (),
        )

    def _learn(self, servers: list[Ranked]) -> None:
        best: dict[str, list[NodeId]] = {}
        for one in sorted(servers):
            if one.candidate.hops:
                best.setdefault(one.branch.model, []).append(one.candidate.node)
        for model, nodes in best.items():
            self._known.aperture.learn(model, nodes)

    def _rank(self, request: _Request, tier: Tier) -> list[Ranked]:
        ask, now, local = size_of(request.job.facts, self._section), request.now, request.local
        ranked: list[Ranked] = []
        place, made = 0, tuple.__new__  # hundreds of times: a named tuple's own constructor would double the cost
        for branch, eligible in tier:
            weight, name, records = branch.weight, "", self._known.measurements.of("")
            leads, stands_for = branch.leads, branch.stands_for
            for candidate in eligible:
                if candidate.name != name:
                    name = candidate.name
                    records = self._known.measurements.of(name)
                load = None if candidate.hops else local.models.get(name)
                rating = rate(candidate, records.get(candidate.node), ask, now, load)
                many = 1.0 if candidate.node in leads else stands_for
                ranked.append(made(Ranked, (rating[0] / weight, place, rating, candidate, branch, many)))
                place += 1
        return ranked

    def _attempts(self, ordered: list[Ranked], request: _Request, most: int) -> list[Attempt]:
        """One attempt per node."""
        found: list[Attempt] = []
        nodes: set[NodeId] = set()
        job, tree, conversation = request.job, request.tree, request.conversation
        demanding = job.demands is not NO_DEMANDS and job.demands != NO_DEMANDS
        for _, _, rating, candidate, branch, _ in ordered:
            if candidate.node in nodes:
                continue
            reach = tree.reach(candidate.node, job.hops_left)
            if reach is None:
                continue
            nodes.add(candidate.node)
            score = named(rating, candidate, branch.weight)
            bound = demanding or branch.bound
            found.append(Attempt(candidate.node, candidate.name, reach.path, score, bound, conversation))
            if len(found) == most:
                break
        return found


def _further(tiers: list[list[Ranked]], number: int) -> Iterator[Ranked]:
    """Servers of all other tiers, each tier by score."""
    return (one for place, tier in enumerate(tiers) if place != number for one in sorted(tier))


def _tier(tiers: list[list[Ranked]], spill_after_s: float) -> int:
    """The first tier where somebody is not busy beyond bearing; of all that are, the one that waits least."""
    waits = [min((busy_s(one) for one in tier), default=float("inf")) for tier in tiers]
    return next((place for place, wait_s in enumerate(waits) if wait_s <= spill_after_s), waits.index(min(waits)))


_ALL: list[Exclusion] = []
"""In place of the late: all are, so that nobody is left out."""


def _in_time(tiers: list[list[Ranked]], left_s: float) -> tuple[list[list[Ranked]], list[Exclusion]]:
    """Without those where the request would only wait until its time is over, unless it would everywhere."""
    late = {id(one[3]): one for tier in tiers for one in tier if one[2][1] > left_s and one[2][3] + one[2][4] > left_s}
    if not late:
        return tiers, []
    if len(late) == sum(map(len, tiers)):
        return tiers, _ALL
    kept = [[one for one in tier if id(one.candidate) not in late] for tier in tiers]
    text = "would begin only after the request's time is over"
    return kept, [Exclusion(one.candidate.node, "deadline", text) for one in late.values()]


def _why(first: Ordered, asked: Asked, tier: int) -> str:
    if asked.rule is None or len(asked.tiers) == 1:
        return first.reason
    words = ("first", "second", "third")
    choice = words[tier] if tier < len(words) else f"{tier + 1}th"
    return f"{first.reason}, of the {choice} tier of '{asked.rule.name}'"


def _refused(error: RequestError, exclusions: list[Exclusion], job: Job, asked: Asked) -> Plan:
    return Plan(
        (), tuple(exclusions), error.message, error, model=asked.model, label=job.label, left_out=len(exclusions)
    )
