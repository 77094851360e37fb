"""vLLM: the context it was started with, and many sequences at once.

`max_model_len` in /v1/models, as vLLM's `ModelCard` has it. Counterpart: a vLLM OpenAI server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshnode.engine.adapter import Engine, whole_number
from meshnode.model.advert import ModelOffer


class Vllm(Engine):
    """A vLLM server. It batches continuously and does not say how far, so the slots are the configuration's."""

    kind = "vllm"

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        self.slots = self.section.batching_slots
        return [self.offer(entry["id"], context=whole_number(entry.get("max_model_len"))) for entry in listed]
