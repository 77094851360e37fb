"""LM Studio: which models are loaded, with what context, and which of them see or call tools.

/api/v0/models, as LM Studio's REST documentation has it. Counterpart: LM Studio's local server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshnode.engine.adapter import Engine, entries, whole_number
from meshnode.model.advert import ModelOffer


class LmStudio(Engine):
    """A local LM Studio. It loads a model that is asked for, so the unloaded ones are offered too, as such."""

    kind = "lm-studio"
    loads_on_request = True

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        status, body = await self.client.read("GET", "/api/v0/models")
        known = entries(body, "data") if status == 200 else []
        return [self._offer(entry) for entry in known or listed if isinstance(entry.get("id"), str)]

    def _offer(self, entry: dict[str, Any]) -> ModelOffer:
        loaded = entry.get("state", "loaded") == "loaded"
        context = whole_number(entry.get("loaded_context_length")) or whole_number(entry.get("max_context_length"))
        family, quant = entry.get("arch"), entry.get("quantization")
        return self.offer(
            entry["id"],
            context=context,
            loaded=loaded,
            features=_features(entry),
            family=family[:64] if isinstance(family, str) else "",
            quant=quant[:32] if isinstance(quant, str) else "",
        )


def _features(entry: dict[str, Any]) -> tuple[str, ...]:
    kind, capabilities = entry.get("type"), entry.get("capabilities")
    if kind == "embeddings":
        return ("embeddings",)
    found = ["chat", "completion"]
    if not isinstance(capabilities, list) or "tool_use" in capabilities:
        found.append("tools")
    if kind == "vlm":
        found.append("vision")
    return tuple(found)
