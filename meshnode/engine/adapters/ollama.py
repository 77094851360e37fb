"""Ollama: every model it has pulled, the context it really serves, and what each can do.

/api/tags, /api/ps and /api/show of Ollama's API documentation; requests go to its OpenAI endpoints. Those ignore
`num_ctx`, so the context offered is that of the loaded model, or Ollama's default. Counterpart: an Ollama server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, entries, guessed_features, read_json, whole_number
from meshnode.engine.client import EngineClient
from meshnode.errors import EngineFailed
from meshnode.model.advert import ModelOffer

_FEATURES = {
    "completion": ("chat", "completion"), "tools": ("tools",), "vision": ("vision",), "embedding": ("embeddings",),
}  # fmt: skip
"""Ollama's words for what a model can do, and ours."""

_WEIGHTS = re.compile(r"^FROM \S*sha256-([0-9a-f]{64})\s*$", re.MULTILINE)
"""The blob that a model is made from, as its Modelfile names it: its name is the SHA-256 of the weights, which the
digest in /api/tags is not (that is the manifest's)."""

Card = tuple[tuple[str, ...], int, bytes]
"""Features, the context the model was trained for, and the SHA-256 of its weights, empty where it is not told."""


class Ollama(Engine):
    """An Ollama server. It loads on demand, so what is not loaded is offered too, as such."""

    kind = "ollama"
    dialects = ("openai", "ollama")
    loads_on_request = True

    def __init__(self, client: EngineClient, section: EngineSection, name: str = "") -> None:
        super().__init__(client, section, name)
        self._cards: dict[tuple[str, str], Card] = {}

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        status, body = await self.client.read("GET", "/api/tags")
        if status != 200:
            raise EngineFailed(f"Ollama at {self.url} answers {status} to /api/tags")
        _, running = await self.client.read("GET", "/api/ps")
        loaded = {entry.get("name"): whole_number(entry.get("context_length")) for entry in entries(running, "models")}
        models = [entry for entry in entries(body, "models") if isinstance(entry.get("name"), str)]
        keys = {(entry["name"], str(entry.get("digest", ""))): None for entry in models}
        # In place: a probe that runs out of time in a long list goes on there the next time.
        for gone in [key for key in self._cards if key not in keys]:
            del self._cards[gone]
        for key in keys:
            if key not in self._cards:
                self._cards[key] = await self._card(key[0])
        return [self._offer(entry, loaded) for entry in models]

    async def _card(self, name: str) -> Card:
        status, body = await self.client.read("POST", "/api/show", msgspec.json.encode({"model": name}))
        found = read_json(body)
        card: dict[str, Any] = found if status == 200 and isinstance(found, dict) else {}
        words, info = card.get("capabilities"), card.get("model_info")
        features: tuple[str, ...] = guessed_features(name)
        if isinstance(words, list):
            features = tuple(ours for word in words if isinstance(word, str) for ours in _FEATURES.get(word, ()))
        lengths = [v for k, v in info.items() if k.endswith(".context_length")] if isinstance(info, dict) else []
        file = card.get("modelfile")
        weights = _WEIGHTS.search(file) if isinstance(file, str) else None
        digest = bytes.fromhex(weights[1]) if weights is not None else b""
        return features, whole_number(lengths[0]) if lengths else 0, digest

    def _offer(self, entry: dict[str, Any], loaded: dict[Any, int]) -> ModelOffer:
        name = entry["name"]
        features, trained, digest = self._cards[name, str(entry.get("digest", ""))]
        default = self.section.ollama_context
        context = loaded.get(name) or (min(trained, default) if trained else default)
        details = entry.get("details")
        known = details if isinstance(details, dict) else {}
        family, quant = known.get("family"), known.get("quantization_level")
        return self.offer(
            name,
            context=context,
            loaded=name in loaded,
            features=features,
            family=family[:64] if isinstance(family, str) else "",
            quant=quant[:32] if isinstance(quant, str) else "",
            digest=digest,
        )
