"""One decision: what is asked for, who may serve it, in which order they are tried, and why. Pure; requests.md §1.

Counterparts: asked.py (the name), eligible.py (who may), score.py (how good), order.py (who first), refusal.py (what to
say when nobody may), explain.py (all of it for people).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.errors import RequestError
from meshnode.model.ids import NodeId
from meshnode.model.job import NO_DEMANDS, Job, Label
from meshnode.model.view import View
from meshnode.routing.affinity import Affinity, conversation_of
from meshnode.routing.aliases import Aliases
from meshnode.routing.asked import Asked, read_name
from meshnode.routing.breaker import Breakers
from meshnode.routing.eligible import Asking, LocalState, Tier, sift
from meshnode.routing.measure import Measurements
from meshnode.routing.offers import Exclusion, Offers
from meshnode.routing.order import OTHERS, Case, Ordered, Ranked, busy_s, order
from meshnode.routing.path import Paths, Tree, same_view
from meshnode.routing.refusal import refusal
from meshnode.routing.score import Score, named, rate, size_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One server to try. `model` is the name under which that node offers it; `path` begins with this node. `bound`:
    another server of the same model would not do as well, so relays may not choose. `conversation` is a hash."""

    node: NodeId
    model: str
    path: tuple[NodeId, ...]
    score: Score
    bound: bool = False
    conversation: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Attempts in order, why each other candidate was left out, and why the first is first. Where there is no attempt,
    `refusal` is the error to answer with.

    Small enough to be kept for every request, but for its exclusions: `others` are the best of those not to be tried,
    out of `eligible` in all, `left_out` counts the exclusions. `model` is the name as it was understood, `label` what
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


class Known:
    """What choosing keeps between decisions: measurements, breakers, conversations, and what was derived from the
    newest view."""

    def __init__(self, section: RoutingSection) -> None:
        self.paths = Paths(section.relay_penalty_s)
        self.measurements = Measurements(section)
        self.breakers = Breakers(section)
        self.affinity = Affinity(section)
        self._section = section
        self._offers: Offers | None = None
        self._view: View | None = None

    def offers(self, view: View) -> tuple[Tree, Offers]:
        """The ways and the offers of `view`, kept until the view changes."""
        tree = self.paths.tree(view)
        if self._offers is None or self._view is None or not same_view(view, self._view):
            self._offers = Offers(view, tree, self._section)
            self._view = view
        return tree, self._offers


class Planner:
    """Makes plans from what is known. Decides only; what is learnt comes back through router.py."""

    def __init__(self, known: Known, aliases: Aliases, dispatch: DispatchSection, section: RoutingSection) -> None:
        self._known = known
        self._aliases = aliases
        self._dispatch = dispatch
        self._section = section

    def plan(self, job: Job, view: View, local: LocalState, rng: Random, now: float) -> Plan:
        """Choose servers for `job`. Never raises: look at `refusal`. Depends on the view's content, not its order."""
        job = self._aliases.constrain(job)
        tree, offers = self._known.offers(view)
        asked = read_name(job.facts.model, view, offers, self._aliases)
        asking = Asking(job, view.me, job.owner or offers.owner)
        able, exclusions = sift(asking, asked, tree, self._known.breakers, local, now)
        if not able:
            most, aliases = self._section.named_in_errors, self._aliases.rules
            error = refusal(job.facts, view, asked, offers, exclusions, most, aliases)
            return _refused(error, exclusions, job, asked)
        tiers = [self._rank(job, tier, local, now) for tier in able]
        in_time, late = _in_time(tiers, job.deadline - now)
        exclusions.extend(late)
        return self._made(job, asked, in_time, exclusions, tree, rng, now)

    def _made(
        self, job: Job, asked: Asked, tiers: list[list[Ranked]], exclusions: list[Exclusion], tree: Tree, rng: Random,
        now: float,
    ) -> Plan:  # fmt: skip
        conversation = conversation_of(job)
        home = self._known.affinity.home(conversation, now) if conversation else None
        number = _tier(tiers, asked.rule.spill_after_s) if asked.rule is not None else 0
        breakers = self._known.breakers
        trial = breakers.on_trial({one.candidate.name for one in tiers[number]}, now) if len(breakers) else frozenset()
        case = Case(conversation, home, rng, self._section.explore, asked.rule is not None, trial)
        first = order(tiers[number], case, self._dispatch)
        further = (one for place, tier in enumerate(tiers) if place != number for one in sorted(tier))
        made = self._attempts((*first.servers, *further), job, tree, conversation)
        most = max(1 + self._dispatch.retries, job.wishes.fanout)
        attempts = tuple(one for _, one in zip(range(most), made, strict=False))
        return Plan(
            attempts,
            tuple(exclusions),
            _why(first, asked, number),
            others=tuple(one for _, one in zip(range(OTHERS), made, strict=False)),
            eligible=sum(map(len, tiers)),
            model=asked.model,
            label=job.label,
            tier=number + 1 if asked.rule is not None else 0,
            conversation=first.conversation,
            left_out=len(exclusions),
        )

    def _rank(self, job: Job, tier: Tier, local: LocalState, now: float) -> list[Ranked]:
        ask = size_of(job.facts, self._section)
        ranked: list[Ranked] = []
        place, made = 0, tuple.__new__  # a thousand times: a named tuple's own constructor would double the cost
        for branch, eligible in tier:
            weight, name, records = branch.weight, "", self._known.measurements.of("")
            for candidate in eligible:
                if candidate.name != name:
                    name = candidate.name
                    records = self._known.measurements.of(name)
                load = None if candidate.hops else local.models.get(name)
                rating = rate(candidate, records.get(candidate.node), ask, now, load)
                ranked.append(made(Ranked, (rating[0] / weight, place, rating, candidate, branch)))
                place += 1
        return ranked

    def _attempts(self, ordered: Iterable[Ranked], job: Job, tree: Tree, conversation: int) -> Iterator[Attempt]:
        """One attempt per node."""
        nodes: set[NodeId] = set()
        demanding = job.demands != NO_DEMANDS
        for _, _, rating, candidate, branch in ordered:
            reach = tree.reach(candidate.node, job.hops_left)
            if candidate.node in nodes or reach is None:
                continue
            nodes.add(candidate.node)
            score = named(rating, candidate, branch.weight)
            bound = branch.bound or demanding
            yield Attempt(candidate.node, candidate.name, reach.path, score, bound, conversation)


def _tier(tiers: list[list[Ranked]], spill_after_s: float) -> int:
    """The first tier where somebody is not busy beyond bearing; of all that are, the one that waits least."""
    waits = [min((busy_s(one) for one in tier), default=float("inf")) for tier in tiers]
    return next((place for place, wait_s in enumerate(waits) if wait_s <= spill_after_s), waits.index(min(waits)))


def _in_time(tiers: list[list[Ranked]], left_s: float) -> tuple[list[list[Ranked]], list[Exclusion]]:
    """Without those where the request would only wait until its time is over, unless it would everywhere."""
    late = {id(one[3]): one for tier in tiers for one in tier if one[2][1] > left_s and one[2][3] + one[2][4] > left_s}
    if not late or len(late) == sum(map(len, tiers)):
        return tiers, []
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
