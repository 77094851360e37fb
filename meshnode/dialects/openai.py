"""OpenAI's model objects, made from what the mesh has gossiped: never from asking anybody now.

Not for choosing a server (routing). Counterpart: model.view, which they are made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from meshnode.errors import ModelNotFound
from meshnode.model.names import closest, same_model, split_pin
from meshnode.model.view import View


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model as clients list it.

    `context` is the largest number of tokens that some node really serves, 0 where nobody says; `nodes` the readable
    names of those that offer it; `created` seconds since 1970, 0 where unknown.
    """

    id: str
    context: int = 0
    nodes: tuple[str, ...] = ()
    created: int = 0
    owned_by: str = "meshnode"
    loaded: bool = True


def cards(view: View, created: int = 0) -> list[ModelCard]:
    """Every model that a node which still takes work offers, by name."""
    found: dict[str, ModelCard] = {}
    for node, advert in sorted(view.adverts.items()):
        if advert.gone or advert.draining:
            continue
        for offer in advert.models:
            if offer.down:
                continue
            card = found.get(offer.name, ModelCard(offer.name, created=created, loaded=False))
            found[offer.name] = ModelCard(
                offer.name,
                context=max(card.context, offer.context),
                nodes=(*card.nodes, view.name(node)),
                created=created,
                loaded=card.loaded or offer.loaded,
            )
    return [found[name] for name in sorted(found)]


def with_aliases(
    offered: Sequence[ModelCard], aliases: Mapping[str, Sequence[str]], created: int = 0
) -> list[ModelCard]:
    """The cards with one more for each alias (the names behind it, by its own) that somebody has a model of: its nodes
    are theirs, its context the largest. An alias hides a model of its name."""
    shown = {card.id: card for card in offered}
    for alias, names in aliases.items():
        behind = [card for card in offered if any(same_model(name, card.id) for name in names)]
        shown.pop(alias, None)
        if behind:
            nodes = tuple(dict.fromkeys(node for card in behind for node in card.nodes))
            context, loaded = max(card.context for card in behind), any(card.loaded for card in behind)
            shown[alias] = ModelCard(alias, context, nodes, created, loaded=loaded)
    return [shown[name] for name in sorted(shown)]


def with_outside(offered: Sequence[ModelCard], outside: Mapping[str, int], created: int = 0) -> list[ModelCard]:
    """The cards with those models that only a commercial API has, of these contexts: it is asked where nobody of the
    mesh can answer, so that a name that the mesh has stays the mesh's."""
    shown = {card.id: card for card in offered}
    for name, context in outside.items():
        shown.setdefault(name, ModelCard(name, context, created=created, owned_by="outside"))
    return [shown[name] for name in sorted(shown)]


def model_object(card: ModelCard) -> dict[str, Any]:
    """OpenAI's object, with the context window in every spelling that clients look for."""
    shown: dict[str, Any] = {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "nodes": list(card.nodes),
        "loaded": card.loaded,
    }
    if card.context:
        shown["context_length"] = card.context  # OpenRouter's
        shown["max_model_len"] = card.context  # vLLM's
        shown["meta"] = {"n_ctx": card.context}  # llama.cpp's
        shown["max_input_tokens"] = card.context  # LiteLLM's and Anthropic's
    return shown


def model_list(offered: Iterable[ModelCard]) -> bytes:
    """The body of `GET /v1/models`."""
    return msgspec.json.encode({"object": "list", "data": [model_object(card) for card in offered]})


def model_body(offered: Sequence[ModelCard], asked: str) -> bytes:
    """The body of `GET /v1/models/{id}`; `name@node` finds `name`. Raises ModelNotFound."""
    name, _ = split_pin(asked)
    for card in offered:
        if same_model(asked, card.id) or same_model(name, card.id):
            return msgspec.json.encode(model_object(card))
    raise not_found(asked, (card.id for card in offered))


def not_found(asked: str, known: Iterable[str]) -> ModelNotFound:
    """The error for a name that nobody offers, with a "did you mean" where something is near."""
    near = closest(asked, known)
    hint = f" Did you mean '{near}'?" if near is not None else ""
    return ModelNotFound(f"The model '{asked[:200]}' does not exist in this mesh.{hint}", param="model")
