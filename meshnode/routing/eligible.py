"""Who may serve a job at all, and why each of the others may not. Pure; requests.md §1, first step.

Filters here are hard: nothing later lets an excluded server back in. What the request asks is checked before the state
of the moment, so that an error names the lasting reason. Not for comparing servers (score).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from meshnode.model.ids import NodeId
from meshnode.model.job import NO_DEMANDS, Job, Label
from meshnode.routing.asked import Asked, Branch
from meshnode.routing.breaker import Breakers
from meshnode.routing.offers import Candidate, Exclusion
from meshnode.routing.tree import Tree
from meshnode.routing.word import LoadFacts

LASTING = frozenset({"model", "feature", "context"})
"""Codes that waiting does not cure."""

RULES = frozenset({"quant", "label", "isolation", "price"})
"""Codes of what was asked of servers: they could serve, and may not."""

Reason = tuple[str, str]
"""Code and text of an exclusion."""


@dataclass(frozen=True, slots=True)
class LocalState:
    """This node's own engines at this moment: load by the model name that its advert offers. A model that is missing
    here is not served now, whatever the advert says."""

    models: Mapping[str, LoadFacts] = field(default_factory=dict)


class Asking(NamedTuple):
    """A job, the node that decides, the owner whom the job is for, and that node's own ("" for nobody's)."""

    job: Job
    me: NodeId
    owner: str
    own: str


Tier = list[tuple[Branch, list[Candidate]]]
"""Who may serve, by entry."""


class Sifted(NamedTuple):
    """By tier who may serve, in the order of their ids, and why each of the others may not; `broken`: breakers would
    shut all of them out."""

    tiers: list[Tier]
    exclusions: list[Exclusion]
    broken: bool = False


def sift(asking: Asking, asked: Asked, tree: Tree, breakers: Breakers, local: LocalState, now: float) -> Sifted:
    """Part the candidates for a job. Breakers hold only while somebody else is left: never the last candidate."""
    exclusions: list[Exclusion] = []
    able: list[Tier] = []
    for tier in asked.tiers:
        able.append([(branch, _able(asking, branch, tree, local, exclusions)) for branch in tier])
    if not many(able):
        return Sifted([], _each_once(asked, exclusions))
    broken = _broken(able, breakers, now)
    if not broken:
        return Sifted(able, _each_once(asked, exclusions))
    healthy = [[(branch, _without(found, broken)) for branch, found in tier] for tier in able]
    if not many(healthy):
        return Sifted(able, _each_once(asked, exclusions), broken=True)
    kept = {id(one) for tier in healthy for _, found in tier for one in found}
    tripped = [one for tier in able for _, found in tier for one in found if id(one) not in kept]
    exclusions.extend(Exclusion(one.node, "breaker", "failed repeatedly just now") for one in tripped)
    return Sifted(healthy, _each_once(asked, exclusions))


def many(tiers: list[Tier]) -> int:
    """How many may serve."""
    return sum([len(found) for tier in tiers for _, found in tier])


def _broken(able: list[Tier], breakers: Breakers, now: float) -> frozenset[tuple[NodeId, str]]:
    if not len(breakers):
        return frozenset()
    return breakers.shut_out({one.name for tier in able for _, found in tier for one in found}, now)


def _without(found: list[Candidate], broken: frozenset[tuple[NodeId, str]]) -> list[Candidate]:
    return [one for one in found if (one.node, one.name) not in broken]


def _each_once(asked: Asked, exclusions: list[Exclusion]) -> list[Exclusion]:
    """Entries of an alias may mean one node several times."""
    return list(dict.fromkeys(exclusions)) if asked.rule is not None else exclusions


def _able(
    asking: Asking, branch: Branch, tree: Tree, local: LocalState, exclusions: list[Exclusion]
) -> list[Candidate]:
    job, demands, sifter = asking.job, asking.job.demands, None
    needs, prompt, hops_left = job.facts.needs, job.facts.prompt_tokens, job.hops_left
    # What else may be asked is looked at one by one.
    ordinary = (
        job.label is not Label.SENSITIVE
        and not job.path
        and not branch.bound
        and (demands is NO_DEMANDS or demands == NO_DEMANDS)
    )
    models = local.models
    found: list[Candidate] = []
    for candidate in branch.candidates:
        # The common case leaves after a few comparisons: there may be a thousand candidates.
        if (
            ordinary
            and candidate.plain
            and candidate.hops <= hops_left
            and (candidate.hops or candidate.name in models)
            and needs <= candidate.features
            and (prompt <= candidate.context or not candidate.context)
        ):
            found.append(candidate)
            continue
        if sifter is None:
            sifter = Sifter(asking, branch, tree, local)
        exclusion = sifter.exclusion(candidate)
        if exclusion is None:
            found.append(candidate)
        else:
            exclusions.append(exclusion)
    return found


class Sifter:
    """What a job asks of the servers of one branch, taken apart once for all candidates."""

    __slots__ = ("_asking", "_bits", "_branch", "_job", "_local", "_most_price", "_tree")

    def __init__(self, asking: Asking, branch: Branch, tree: Tree, local: LocalState) -> None:
        job, demands = asking.job, asking.job.demands
        self._job = job
        self._asking = asking
        self._branch = branch
        self._tree = tree
        self._local = local
        self._bits = max(demands.quant_bits, branch.quant_bits)
        self._most_price = inf if demands.most_price_micro is None else float(demands.most_price_micro)

    def exclusion(self, candidate: Candidate) -> Exclusion | None:
        """Why not, or None."""
        reason = self._asked(candidate) or self._allowed(candidate)
        return Exclusion(candidate.node, *reason) if reason else candidate.standing or self._reached(candidate)

    def _asked(self, candidate: Candidate) -> Reason | None:
        """What no waiting cures. A context of 0 is one that the engine does not tell: enough for a prompt, which the
        engine may refuse, but not for an entry that sets a least."""
        branch, facts = self._branch, self._job.facts
        if branch.pinned is not None and candidate.node not in branch.pinned:
            return "model", "is not the node that was asked for"
        if not facts.needs <= candidate.features:
            missing = sorted(facts.needs - candidate.features)
            return "feature", f"serves {candidate.name} without {', '.join(missing)}"
        if candidate.context and facts.prompt_tokens > candidate.context:
            text = f"serves a context of {candidate.context} tokens, the prompt has about {facts.prompt_tokens}"
            return "context", text
        if candidate.context < branch.context:
            return "context", f"serves a context of {candidate.context or 'unknown'} tokens, not {branch.context}"
        return None

    def _allowed(self, candidate: Candidate) -> Reason | None:
        """The request's rules. Fail closed: what is not known does not count as given."""
        if candidate.bits < self._bits:
            has = f"has {candidate.name} at q{candidate.bits}" if candidate.bits else "does not say its quantisation"
            return "quant", f"{has}, at least q{self._bits} was asked for"
        if candidate.price_micro > self._most_price:
            costs, most = candidate.price_micro / 1e6, self._most_price / 1e6
            return "price", f"costs {costs:g} a million tokens, at most {most:g} was allowed"
        if self._job.label is Label.SENSITIVE and not candidate.vouched:
            # An advert's posture is the peer's own word (protocol.md §7).
            return "label", "is neither attested nor pinned here, and the request is sensitive"
        if candidate.node in self._job.path:
            return "passed", "has already passed this request on"
        return self._isolated(candidate)

    def _isolated(self, candidate: Candidate) -> Reason | None:
        _, me, owner, own = self._asking
        # Whoever has a key of this node asks in a name that no certificate of this node's stands behind.
        backed = bool(self._job.path) or owner == own
        if candidate.node == me and not self._job.path and backed:
            return None
        owned = bool(owner) and candidate.owner == owner
        if self._job.demands.own_machines and not owned:
            return (
                "isolation",
                f"is {_whose(candidate.owner)}, and the request stays on machines of {owner or 'its own'}",
            )
        if candidate.owner_only and not (owned and backed):
            return "isolation", f"serves nobody but {candidate.owner or 'its owner'}"
        return None

    def _reached(self, candidate: Candidate) -> Exclusion | None:
        if candidate.node == self._asking.me:
            missing = candidate.name not in self._local.models
            return Exclusion(candidate.node, "engine", "has no engine ready for it") if missing else None
        hops_left = self._job.hops_left
        if candidate.hops <= hops_left or self._tree.reach(candidate.node, hops_left) is not None:
            return None
        text = f"is {candidate.hops} hops away, {hops_left} are left"
        return Exclusion(candidate.node, "hops", text)


def _whose(owner: str) -> str:
    return f"{owner}'s" if owner else "nobody's in particular"
