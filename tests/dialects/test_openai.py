"""Model lists show what the mesh has, with the context really served."""

from __future__ import annotations

import json

import pytest

from meshnode.dialects import ModelCard, cards, model_body, model_list, with_aliases
from meshnode.errors import ModelNotFound
from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.ids import NodeId
from meshnode.model.view import View

ONE, TWO, THREE = (NodeId(bytes([n]) * 32) for n in (1, 2, 3))


def advert(node: NodeId, name: str, *models: ModelOffer, gone: bool = False, draining: bool = False) -> Advert:
    return Advert(node, bytes(32), 1, 1, 60, name=name, models=models, gone=gone, draining=draining)


VIEW = View(
    ONE,
    {
        TWO: advert(TWO, "attic", ModelOffer("big/m:7b", context=8192, loaded=False), ModelOffer("small")),
        ONE: advert(ONE, "desk", ModelOffer("big/m:7b", context=4096)),
        THREE: advert(THREE, "left", ModelOffer("other"), draining=True),
    },
)


def test_cards_join_what_nodes_offer() -> None:
    assert cards(VIEW, created=9) == [
        ModelCard("big/m:7b", context=8192, nodes=("desk", "attic"), created=9, loaded=True),
        ModelCard("small", nodes=("attic",), created=9),
    ]


def test_the_context_is_spelled_every_way() -> None:
    listed = json.loads(model_list(cards(VIEW)))
    assert listed["object"] == "list"
    model = listed["data"][0]
    assert model["id"] == "big/m:7b"
    assert {model["context_length"], model["max_model_len"], model["meta"]["n_ctx"], model["max_input_tokens"]} == {
        8192
    }
    assert (model["object"], model["owned_by"], model["created"]) == ("model", "meshnode", 0)


def test_an_unknown_context_is_not_shown_as_zero() -> None:
    assert "context_length" not in json.loads(model_list(cards(VIEW)))["data"][1]


@pytest.mark.parametrize("asked", ["big/m:7b", "big/m:7b@attic", "small:latest"])
def test_one_model_is_found_by_its_name(asked: str) -> None:
    assert asked.startswith(json.loads(model_body(cards(VIEW), asked))["id"])


def test_a_near_miss_gets_a_hint() -> None:
    with pytest.raises(ModelNotFound, match=r"Did you mean 'big/m:7b'\?"):
        model_body(cards(VIEW), "big/m:8b")


def test_an_alias_is_listed_as_a_model_of_its_own() -> None:
    offered = [ModelCard("big", 8192, ("tower",)), ModelCard("small", 4096, ("desk", "tower"))]
    listed = with_aliases(offered, {"coder": ["big", "small"], "dead": ["gone"], "small": ["big"]}, 7)
    assert [card.id for card in listed] == ["big", "coder", "small"]
    assert listed[1] == ModelCard("coder", 8192, ("tower", "desk"), 7)
    assert listed[2].nodes == ("tower",)
