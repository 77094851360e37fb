"""What the nodes of a view offer, made ready for deciding: one flat Candidate for each node and model. Pure.

Made once a view, read by every decision. Not for who may serve (eligible) nor for comparing (score).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.ids import NodeId
from meshnode.model.names import same_model
from meshnode.model.posture import Posture
from meshnode.model.quant import bits_of
from meshnode.model.view import View
from meshnode.routing.path import MOST_HOPS, Tree


class Exclusion(NamedTuple):
    """Why a node does not serve a job. `code` is one of model, feature, context, quant, label, isolation, price,
    draining, engine, unreachable, hops, passed, breaker, deadline; `text` says it in words that fit behind the node's
    name."""

    node: NodeId
    code: str
    text: str


@dataclass(slots=True, eq=False)
class Candidate:
    """One node's offer of one model, with what the view says of it.

    `name` is the model as this node calls it; `cost_s` and `hops` are of the cheapest way of any length, 0 hops only
    for this node; `bits` 0 where nobody says how the weights are quantised; `posture` is what was verified, `vouched`
    whether that, a pin or being this node lets it serve what is sensitive; `owner_only`: it serves its owner alone;
    `standing` is an exclusion that holds for every job, or None. Flat, because a decision reads a thousand of them.
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
    watts: int
    posture: Posture
    vouched: bool
    owner: str
    owner_only: bool
    lot: int
    standing: Exclusion | None


class Offers:
    """Every offer of a view by model name, nodes in the order of their ids. `trusted` may serve what is sensitive,
    besides those that the view vouches for."""

    def __init__(self, view: View, tree: Tree, trusted: Collection[NodeId] = ()) -> None:
        self.by_name: dict[str, list[Candidate]] = {}
        own = view.adverts.get(view.me)
        self.owner = own.owner if own is not None else ""
        for node, advert in sorted(view.adverts.items()):
            if advert.gone:
                continue
            way = tree.cheapest(node)
            standing = None
            if advert.draining:
                standing = Exclusion(node, "draining", "is shutting down")
            elif way is None:
                standing = Exclusion(node, "unreachable", "cannot be reached over any path")
            vouched = node == view.me or node in view.pinned or node in trusted
            for offer in advert.models:
                found = _candidate(view, advert, offer, way or (0.0, MOST_HOPS + 1), vouched, standing)
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


def _candidate(
    view: View, advert: Advert, offer: ModelOffer, way: tuple[float, int], vouched: bool, standing: Exclusion | None
) -> Candidate:
    node = advert.node
    posture = view.posture(node, offer.digest)
    if standing is None and offer.down:
        standing = Exclusion(node, "engine", "has it, but its engine is down")
    return Candidate(
        node=node,
        name=offer.name,
        features=frozenset(offer.features),
        context=offer.context,
        slots=offer.slots or 1,
        loaded=offer.loaded,
        # Of a tag such as llama3:8b-q4_K_M, where the engine says nothing else.
        bits=bits_of(offer.quant) or bits_of(offer.name),
        cost_s=way[0],
        hops=way[1],
        price_micro=advert.price_micro_per_mtok,
        watts=advert.watts,
        posture=posture,
        vouched=vouched or posture is Posture.ATTESTED,
        owner=advert.owner,
        owner_only=advert.owner_only,
        lot=int.from_bytes(node[:8], "big"),
        standing=standing,
    )
