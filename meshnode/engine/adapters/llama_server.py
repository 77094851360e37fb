"""llama.cpp's own server: its slots, the context of each, and what its chat template and projector can do.

/props and the `meta` of /v1/models, as documented in llama.cpp's tools/server/README. Counterpart: a llama-server,
the embedded one included (engine.embedded).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from meshnode.engine.adapter import Engine, read_json, whole_number
from meshnode.errors import EngineFailed
from meshnode.model.advert import ModelOffer


class LlamaServer(Engine):
    """A llama-server with one model. It answers to any model name, so an offer may carry a readable one."""

    kind = "llama-server"
    dialects = ("openai", "anthropic")

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        status, body = await self.client.read("GET", "/props")
        if status != 200:
            raise EngineFailed(f"the engine at {self.url} answers {status} to /props")
        found = read_json(body)
        props: dict[str, Any] = found if isinstance(found, dict) else {}
        self.slots = max(1, min(4096, whole_number(props.get("total_slots"))))
        features = await self.features(props)
        offers = [self._offer(entry, props, features) for entry in listed]
        self.files = self._files(offers, props.get("model_path"))
        return offers

    def _files(self, offers: list[ModelOffer], path: Any) -> dict[str, Path]:
        """Of the one model that it runs: an engine of another machine names a file of that machine."""
        here = urlsplit(self.url).hostname in ("127.0.0.1", "::1", "localhost")
        known = here and len(offers) == 1 and isinstance(path, str) and PurePath(path).is_absolute()
        return {offers[0].name: Path(path)} if known else {}

    async def features(self, props: dict[str, Any]) -> tuple[str, ...]:
        """Words of `model.job.FEATURES` by what /props says. Whether embeddings are on it does not say, and asking
        for one costs a prompt: a server started for embeddings only says so by its model's name."""
        modalities, caps = props.get("modalities"), props.get("chat_template_caps")
        found = ["chat", "completion"]
        if not isinstance(caps, dict) or caps.get("supports_tools", True):
            found.append("tools")
        if isinstance(modalities, dict) and modalities.get("vision"):
            found.append("vision")
        return tuple(found)

    def _offer(self, entry: dict[str, Any], props: dict[str, Any], features: tuple[str, ...]) -> ModelOffer:
        meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
        settings = props.get("default_generation_settings")
        context = whole_number(settings.get("n_ctx")) if isinstance(settings, dict) else 0
        quant = props.get("model_ftype") or (meta or {}).get("ftype")
        known: dict[str, Any] = {"quant": quant[:32]} if isinstance(quant, str) else {}
        name = readable(entry["id"])
        if name and "embed" in name.casefold():
            features = ("embeddings",)
        return self.offer(name, context=context or whole_number((meta or {}).get("n_ctx")), features=features, **known)


def readable(model: str) -> str:
    """A model id that is a file's path, as the file's own name; any other id as it is."""
    if not model.casefold().endswith(".gguf"):
        return model
    return PureWindowsPath(model).stem if "\\" in model else PurePath(model).stem
