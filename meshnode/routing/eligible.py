"""Who may serve a job at all, and why each of the others may not. Pure; requests.md §1, first step.

Filters here are hard: nothing later lets an excluded server back in. What the request asks is checked before the state
of the moment, so that an error names the lasting reason. Not for comparing servers (score).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshnode.model.ids import NodeId
from meshnode.model.job import Job, Label
from meshnode.model.names import same_model, split_pin
from meshnode.model.view import View
from meshnode.routing.breaker import Breakers
from meshnode.routing.measure import LoadFacts
from meshnode.routing.path import MOST_HOPS, Tree

LASTING = frozenset({"model", "feature", "context"})
"""Codes that waiting does not cure."""


class Exclusion(NamedTuple):
    """Why a node does not serve a job. `code` is one of model, feature, context, label, draining, engine, unreachable,
    hops, passed, breaker; `text` says it in words that fit behind the node's name."""

    node: NodeId
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class LocalState:
    """This node's own engines at this moment: load by the model name that its advert offers. A model that is missing
    here is not served now, whatever the advert says."""

    models: Mapping[str, LoadFacts] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Candidate:
    """One node's offer of one model, with what the view says of it.

    `name` is the model as this node calls it; `cost_s` and `hops` are of the cheapest way of any length, 0 hops only
    for this node; `standing` is an exclusion that holds for every job, or None. Flat, because a decision reads a
    thousand of them.
    """

    node: NodeId
    name: str
    features: frozenset[str]
    context: int
    slots: int
    loaded: bool
    cost_s: float
    hops: int
    price_micro: int
    standing: Exclusion | None


class Offers:
    """Every offer of a view by model name, nodes in the order of their ids."""

    def __init__(self, view: View, tree: Tree) -> None:
        self.by_name: dict[str, list[Candidate]] = {}
        for node, advert in sorted(view.adverts.items()):
            if advert.gone:
                continue
            way = tree.cheapest(node)
            standing = None
            if advert.draining:
                standing = Exclusion(node, "draining", "is shutting down")
            elif way is None:
                standing = Exclusion(node, "unreachable", "cannot be reached over any path")
            down = Exclusion(node, "engine", "has it, but its engine is down")
            cost_s, hops = way or (0.0, MOST_HOPS + 1)
            for offer in advert.models:
                found = Candidate(
                    node=node,
                    name=offer.name,
                    features=frozenset(offer.features),
                    context=offer.context,
                    slots=offer.slots or 1,
                    loaded=offer.loaded,
                    cost_s=cost_s,
                    hops=hops,
                    price_micro=advert.price_micro_per_mtok,
                    standing=standing or (down if offer.down else None),
                )
                self.by_name.setdefault(offer.name, []).append(found)

    def named(self, model: str) -> list[Candidate]:
        """Offers of `model` as exactly spelled, then under the other spelling of the same name."""
        other = model.removesuffix(":latest") if model.endswith(":latest") else f"{model}:latest"
        exact, alike = self.by_name.get(model, []), self.by_name.get(other, [])
        if not alike or not same_model(model, other):
            return exact
        nodes = {candidate.node for candidate in exact}
        return sorted(
            [*exact, *(candidate for candidate in alike if candidate.node not in nodes)],
            key=lambda candidate: candidate.node,
        )


class Asked(NamedTuple):
    """A model name read: the model, the nodes that a pin means (None: no pin), and the candidates that offer it."""

    model: str
    pin: str | None
    pinned: frozenset[NodeId] | None
    candidates: list[Candidate]


def read_name(model: str, view: View, offers: Offers) -> Asked:
    """Take `name@node` apart, unless some node offers the whole as a name. A pin is a node's name, its id, or the short
    form of its id; names are not unique, so it may mean several."""
    whole = offers.named(model)
    name, pin = split_pin(model)
    if whole or pin is None:
        return Asked(model, None, None, whole)
    pinned = frozenset(
        node for node, advert in view.adverts.items() if pin in (advert.name, node.short) or pin.lower() == node.text
    )
    return Asked(name, pin, pinned, offers.named(name))


class Sifted(NamedTuple):
    """Candidates that may serve, in the order of their ids, and why each of the others may not."""

    eligible: list[Candidate]
    exclusions: list[Exclusion]


def sift(job: Job, me: NodeId, asked: Asked, tree: Tree, breakers: Breakers, local: LocalState, now: float) -> Sifted:
    """Part the candidates for `job`. Breakers hold only while somebody else is left: never the last candidate."""
    sifter = _Sifter(job, me, asked, tree, local)
    broken = breakers.shut_out({candidate.name for candidate in asked.candidates}, now)
    ordinary = job.label is not Label.SENSITIVE and not job.path and asked.pinned is None
    needs, prompt, hops_left = job.facts.needs, job.facts.prompt_tokens, job.hops_left
    eligible: list[Candidate] = []
    tripped: list[Candidate] = []
    exclusions: list[Exclusion] = []
    for candidate in asked.candidates:
        # The common case leaves after a few comparisons: there may be a thousand candidates.
        fits = ordinary and needs <= candidate.features and (prompt <= candidate.context or not candidate.context)
        near = candidate.standing is None and 0 < candidate.hops <= hops_left
        exclusion = None if fits and near else sifter.exclusion(candidate)
        if exclusion is not None:
            exclusions.append(exclusion)
        elif broken and (candidate.node, candidate.name) in broken:
            tripped.append(candidate)
        else:
            eligible.append(candidate)
    if not eligible:
        return Sifted(tripped, exclusions)
    exclusions.extend(Exclusion(candidate.node, "breaker", "failed repeatedly just now") for candidate in tripped)
    return Sifted(eligible, exclusions)


class _Sifter:
    """What a job asks, taken apart once for all candidates."""

    def __init__(self, job: Job, me: NodeId, asked: Asked, tree: Tree, local: LocalState) -> None:
        self._needs = job.facts.needs
        self._prompt = job.facts.prompt_tokens
        self._hops_left = job.hops_left
        self._passed = job.path
        self._only_me = job.label is Label.SENSITIVE
        self._pinned = asked.pinned
        self._me = me
        self._tree = tree
        self._local = local

    def exclusion(self, candidate: Candidate) -> Exclusion | None:
        """Why not, or None."""
        reason = self._asked(candidate) or self._allowed(candidate)
        return Exclusion(candidate.node, *reason) if reason else candidate.standing or self._reached(candidate)

    def _asked(self, candidate: Candidate) -> tuple[str, str] | None:
        """What no waiting cures. A context of 0 is one that the engine does not tell."""
        if self._pinned is not None and candidate.node not in self._pinned:
            return "model", "is not the node that was asked for"
        missing = sorted(self._needs - candidate.features)
        if missing:
            return "feature", f"serves {candidate.name} without {', '.join(missing)}"
        if candidate.context and self._prompt > candidate.context:
            return "context", f"serves a context of {candidate.context} tokens, the prompt has about {self._prompt}"
        return None

    def _allowed(self, candidate: Candidate) -> tuple[str, str] | None:
        """Fail closed: an advert's posture is the peer's own word until evidence is verified, so a sensitive request
        stays on this node (protocol.md §7)."""
        if self._only_me and candidate.node != self._me:
            return "label", "has no verified trust posture, and the request is sensitive"
        if candidate.node in self._passed:
            return "passed", "has already passed this request on"
        return None

    def _reached(self, candidate: Candidate) -> Exclusion | None:
        if candidate.node == self._me:
            missing = candidate.name not in self._local.models
            return Exclusion(candidate.node, "engine", "has no engine ready for it") if missing else None
        if candidate.hops <= self._hops_left or self._tree.reach(candidate.node, self._hops_left) is not None:
            return None
        text = f"is {candidate.hops} hops away, {self._hops_left} are left"
        return Exclusion(candidate.node, "hops", text)
