"""Aliases: names of this node's own for models of the mesh, in the order of preference. Part of section `routing`.

    [routing.aliases.coder]
    label = "internal"
    tiers = [
      ["qwen3-coder@tower", { model = "qwen3-coder", min_quant = "q5", weight = 2 }],
      ["llama3.2"],
    ]

Data, checked where it is read. Counterpart: routing.aliases, which gives them their meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from meshnode.config.types import Money, Seconds, Whole
from meshnode.model.quant import least_bits

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a tier. `node` is a name or an id, as behind `@`; `weight` is how many times as often it is taken as
    one of weight 1 that is as quick."""

    model: Name
    node: Annotated[str, Meta(max_length=128)] = ""
    min_quant: str = ""
    min_context: Whole = 0
    weight: Annotated[float, Meta(ge=0.01, le=100)] = 1.0

    def __post_init__(self) -> None:
        if self.min_quant:
            least_bits(self.min_quant)


class Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One alias. An entry in short is a model's name, perhaps with `@node`.

    A tier is passed over while everything in it would wait longer than `spill_after_s`. `label`, `max_price` (of a
    million tokens) and `own_machines` hold for every request for the alias; where a request asks for more, that does.
    """

    tiers: Annotated[
        tuple[Annotated[tuple[Name | Entry, ...], Meta(min_length=1, max_length=16)], ...],
        Meta(min_length=1, max_length=8),
    ]
    label: Literal["public", "internal", "sensitive"] = "public"
    max_price: Money | None = None
    own_machines: bool = False
    spill_after_s: Seconds = 2.0


Aliases = Annotated[dict[Name, Alias], Meta(max_length=256)]
