"""Section `cloud`: commercial APIs asked last, where neither this machine nor a peer can answer. requests.md §1.

Off until a provider is written down. Keys are never in this file: it is shown, copied and sent to friends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from meshnode.config.types import Positive, Seconds

Price = Annotated[float, Meta(ge=0, le=1e6)]
Word = Annotated[str, Meta(min_length=1, max_length=128)]


@dataclass(frozen=True, slots=True)
class CloudModel:
    """One model of a provider. `name` is what clients ask for; `model` what the provider calls it, the same when left
    out. Prices are for a million tokens, in the currency of `cloud.budget`."""

    name: Word
    input_price: Price
    output_price: Price
    model: str = ""
    # Tokens of prompt and answer together. 0: not known, and not checked.
    context: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    # What it can do, in the words of adverts: most large ones read images and call tools.
    features: tuple[Word, ...] = ("chat", "tools", "vision")


@dataclass(frozen=True, slots=True)
class CloudProvider:
    """One account. Its key comes from the environment variable `key_env` or from the file `key_file` (mode 600)."""

    name: Word
    url: Word
    models: Annotated[tuple[CloudModel, ...], Meta(min_length=1, max_length=256)]
    dialect: Literal["openai", "anthropic"] = "openai"
    key_env: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class CloudSection:
    # In the order in which they are tried.
    providers: tuple[CloudProvider, ...] = ()
    # The least public label that may leave the mesh. A request without a label is internal: it goes out only if a
    # person has written "internal" here. What is sensitive never does.
    label: Literal["public", "internal"] = "public"
    # Spent at most on one day (UTC), over all providers. 0 asks nobody: money has no safe default.
    budget: Price = 0.0
    # The longest answer of a request that names none: what it may cost must be known before.
    usual_tokens: Positive = 4096
    # To connect: a provider is farther away than an engine.
    connect_timeout_s: Seconds = 10.0

    def models(self) -> dict[str, int]:
        """Names that may be asked for, with the context of each; none while nothing may be spent."""
        if not self.budget:
            return {}
        return {model.name: model.context for provider in self.providers for model in provider.models}
