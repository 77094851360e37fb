"""What the nodes of a view offer, made ready for deciding: one flat Candidate for each node and model. Pure.

Made once a view, read by every decision. Not for who may serve (eligible) nor for comparing (score).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from meshnode.config.routing import RoutingSection
from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.ids import NodeId
from meshnode.model.names import same_model
from meshnode.model.posture import Posture
from meshnode.model.quant import bits_of
from meshnode.model.view import View
from meshnode.routing.measure import NEW_SERVER
from meshnode.routing.tree import MOST_HOPS, Tree

_BOLDEST = 10.0
"""So many times as quick as usual a server may call itself: a claim beyond is worth no more."""


class Exclusion(NamedTuple):
    """Why a node does not serve a job. `code` is one of model, feature, context, quant, label, isolation, price,
    draining, paused, engine, unreachable, hops, passed, breaker, deadline; `text` says it in words that fit behind the
    node's name."""

    node: NodeId
    code: str
    text: str


@dataclass(slots=True, eq=False)
class Candidate:
    """One node's offer of one model, with what the view says of it.

    `name` is the model as this node calls it; `cost_s` and `hops` are of the cheapest way of any length, 0 hops only
    for this node; `bits` 0 where nobody says how the weights are quantised; `posture` is what was verified, `vouched`
    whether that, a pin or being this node lets it serve what is sensitive; `owner_only`: it serves its owner alone;
    `guess_first_s` by unit of prompt and `guess_token_s` are what to expect of it while it was never measured; `cost`,
    `power` and `trust` are factors of its score, `weight` their product; `standing` is an exclusion that holds
    for every job, or None; `plain`: nothing of the node itself is in the way. Flat, because a decision reads
    hundreds of them.
    """

    node: NodeId
    name: str
    features: frozenset[str]
    context: int
    slots: int
    loaded: bool
    bits: int
    cost_s: float
    hops: int
    price_micro: int
    guess_first_s: float
    guess_token_s: float
    cost: float
    power: float
    trust: float
    weight: float
    posture: Posture
    vouched: bool
    owner: str
    owner_only: bool
    lot: int
    standing: Exclusion | None
    plain: bool


class Offers:
    """Every offer of a view by model name, nodes in the order of their ids. Made after `before`, it keeps the lists in
    which nothing changed, and costs what the others do."""

    def __init__(self, view: View, tree: Tree, section: RoutingSection, before: Offers | None = None) -> None:
        own = view.adverts.get(view.me)
        self.owner = own.owner if own is not None else ""
        self.by_name: dict[str, list[Candidate]] = {}
        self._both: dict[str, list[Candidate]] = {}
        self._of: dict[NodeId, tuple[Candidate, ...]] = {}
        self._view, self._tree, self._version = view, tree, tree.version
        trusted = {view.me, *view.pinned, *map(NodeId.parse, section.sensitive_nodes)}
        self._told = _Told(view, tree, section, trusted)
        changed = before._changed(view, tree) if before is not None else None
        if before is not None and changed is not None:
            self._continue(before, changed)
            return
        for node, advert in sorted(view.adverts.items()):
            found = self._told.candidates(node, advert)
            if found:
                self._of[node] = found
            for one in found:
                self.by_name.setdefault(one.name, []).append(one)

    def named(self, model: str) -> list[Candidate]:
        """Offers of `model` as exactly spelled, then under the other spelling of the same name."""
        other = _other_spelling(model)
        exact, alike = self.by_name.get(model, []), self.by_name.get(other, [])
        if not alike or not same_model(model, other):
            return exact
        # Kept, because a thousand are not quickly sorted; both names are offered, so there are no more than of those.
        both = self._both.get(model)
        if both is None:
            nodes = {candidate.node for candidate in exact}
            further = (candidate for candidate in alike if candidate.node not in nodes)
            both = self._both[model] = sorted([*exact, *further], key=_node)
        return both

    def _changed(self, view: View, tree: Tree) -> frozenset[NodeId] | None:
        """Nodes that offer something else in the next view, or look otherwise from here, and those that are gone; None
        where it may be all."""
        old = self._view
        moved = tree.changed_since(self._version) if tree is self._tree else None
        if moved is None:
            return None
        was = old.adverts.get
        news = [node for node, advert in view.adverts.items() if advert is not was(node)]
        gone = old.adverts.keys() - view.adverts.keys()
        verified = _differing(old.postures, view.postures) | _differing(old.weights, view.weights)
        return moved.union(news, gone, verified, old.pinned ^ view.pinned)

    def _continue(self, before: Offers, changed: frozenset[NodeId]) -> None:
        self.by_name, self._of = dict(before.by_name), before._of
        fresh: set[str] = set()
        for node in changed:
            advert = self._view.adverts.get(node)
            had, has = self._of.pop(node, ()), self._told.candidates(node, advert) if advert is not None else ()
            if has:
                self._of[node] = has
            for name in {one.name for one in (*had, *has)}:
                if name not in fresh:
                    fresh.add(name)
                    self.by_name[name] = list(self.by_name.get(name, ()))
                place = bisect_left(self.by_name[name], node, key=_node)
                self.by_name[name][place : place + sum(one.name == name for one in had)] = [
                    one for one in has if one.name == name
                ]
        for name in fresh:
            if not self.by_name[name]:
                del self.by_name[name]
        kept = before._both.items()
        self._both = {name: both for name, both in kept if fresh.isdisjoint((name, _other_spelling(name)))}


def _differing(one: Mapping[NodeId, Any], other: Mapping[NodeId, Any]) -> set[NodeId]:
    return {node for node, _ in one.items() ^ other.items()} if one is not other else set()


def _other_spelling(model: str) -> str:
    return model.removesuffix(":latest") if model.endswith(":latest") else f"{model}:latest"


def _node(candidate: Candidate) -> NodeId:
    return candidate.node


class _Told(NamedTuple):
    """A view, as candidates are made of it."""

    view: View
    tree: Tree
    section: RoutingSection
    trusted: set[NodeId]

    def candidates(self, node: NodeId, advert: Advert) -> tuple[Candidate, ...]:
        """What one node offers."""
        if advert.gone or not advert.models:
            return ()
        way = self.tree.cheapest(node)
        standing = None
        if advert.draining:
            standing = Exclusion(node, "draining", "is shutting down")
        elif advert.paused:
            standing = Exclusion(node, "paused", "takes no requests now")
        elif way is None:
            standing = Exclusion(node, "unreachable", "cannot be reached over any path")
        seen = _Seen(self.view, self.section, way or (0.0, MOST_HOPS + 1), node in self.trusted, standing)
        return tuple(_candidate(advert, offer, seen) for offer in advert.models)


class _Seen(NamedTuple):
    """What holds for a node whatever it offers, as seen from here. `way` is cost and hops."""

    view: View
    section: RoutingSection
    way: tuple[float, int]
    trusted: bool
    standing: Exclusion | None


def _candidate(advert: Advert, offer: ModelOffer, seen: _Seen) -> Candidate:
    node, section = advert.node, seen.section
    posture = seen.view.posture(node, offer.digest)
    vouched = seen.trusted or posture is Posture.ATTESTED
    down = Exclusion(node, "engine", "has it, but its engine is down") if offer.down else None
    cost = 1.0 + advert.price_micro_per_mtok / section.price_doubles_micro
    power = 1.0 + advert.watts / section.watts_doubles if section.watts_doubles else 1.0
    trust = 1.0 if vouched or posture is Posture.SIGNED_WEIGHTS else section.claimed_counts
    return Candidate(
        node=node,
        name=offer.name,
        features=frozenset(offer.features),
        context=offer.context,
        slots=offer.slots or 1,
        loaded=offer.loaded,
        # Of a tag such as llama3:8b-q4_K_M, where the engine says nothing else.
        bits=bits_of(offer.quant) or bits_of(offer.name),
        cost_s=seen.way[0],
        hops=seen.way[1],
        price_micro=advert.price_micro_per_mtok,
        guess_first_s=_guess(offer.prefill_ms / 1e3, section.guess_first_token_s),
        guess_token_s=_guess(offer.decode_us / 1e6, section.guess_token_s),
        cost=cost,
        power=power,
        trust=trust,
        weight=cost * power * trust,
        posture=posture,
        vouched=vouched,
        owner=advert.owner,
        owner_only=advert.owner_only,
        lot=int.from_bytes(node[:8], "big"),
        standing=seen.standing or down,
        plain=seen.standing is None and down is None and not advert.owner_only,
    )


def _guess(claim_s: float, usual_s: float) -> float:
    """What to expect of a server never measured: twice what it says of itself, or else what is usual."""
    return NEW_SERVER * (max(claim_s, usual_s / _BOLDEST) if claim_s else usual_s)
