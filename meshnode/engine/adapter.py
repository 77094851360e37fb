"""What every engine can do here: be asked what it offers, and serve a request with the client's bytes untouched.

`Engine` itself fronts any OpenAI-compatible server; the classes in `adapters/` add what one kind says more. Not for
finding engines (probe.py), starting them (supervisor.py), nor queueing (the room `slots`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from meshnode.config.engine import EngineSection
from meshnode.dialects import of_engine
from meshnode.engine.client import EngineClient, whole
from meshnode.errors import ContextExceeded, EngineFailed, EngineUnauthorized
from meshnode.model.advert import ModelOffer
from meshnode.model.answer import Answer, WholeAnswer
from meshnode.model.names import same_model
from meshnode.observe import log

logger = log.get("engine")

JSON: Mapping[str, str] = {"content-type": "application/json"}
"""Headers of a request that brings none."""

MAX_NAME = 128
"""Longest model name an advert carries (model.advert.Text)."""

ERROR_BODY_BYTES = 1024 * 1024
"""Largest error body read from an engine."""

CONTEXT_WORDS = ("maximum context length", "exceeds the available context size", "context length exceeded")
"""How vLLM, llama-server and LM Studio begin to say that a prompt is too long."""


class State(enum.Enum):
    """Where an engine is in its life, as far as a probe can tell."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DOWN = "down"


class Engine:
    """An OpenAI-compatible server at one URL.

    `offers` is what it serves as of the last `refresh`, `lost` what it served until it went down, `slots` how many
    requests it runs at once, `resident` what it has loaded (None: it does not load on request), `files` where weights
    of its models are on this machine, as far as it says it; `state` and `detail` what people are told. A kind that
    says more of itself overrides `describe`.
    """

    kind = "openai"
    dialects: tuple[str, ...] = ("openai",)
    loads_on_request = False

    def __init__(self, client: EngineClient, section: EngineSection, name: str = "") -> None:
        self.client = client
        self.section = section
        self.name = name or f"{self.kind}@{client.url.partition('://')[2]}"
        self.offers: tuple[ModelOffer, ...] = ()
        self.lost: tuple[ModelOffer, ...] = ()
        self.resident: frozenset[str] | None = None
        self.files: Mapping[str, Path] = {}
        self.slots = section.default_slots
        self.state = State.STARTING
        self.detail = ""
        self._refused_us = False

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.client.url

    @property
    def running(self) -> int:
        """Requests it is answering for this node now."""
        return self.client.active

    async def refresh(self) -> None:
        """Ask the engine again what it is and offers. Raises EngineFailed when it does not answer sensibly."""
        self.client.prune()
        status, body = await self.client.read("GET", "/v1/models")
        if status == 503:
            self.state, self.detail, self.offers = State.LOADING, _message(body) or "loading its model", ()
            return
        if status != 200:
            raise EngineFailed(f"the engine at {self.url} answers {status} to /v1/models")
        listed = [entry for entry in entries(body, "data") if isinstance(entry.get("id"), str)]
        self.offers = tuple(offer for offer in await self.describe(listed) if 0 < len(offer.name) <= MAX_NAME)
        if self.loads_on_request:
            self.resident = frozenset(offer.name for offer in self.offers if offer.loaded)
        self.state, self.detail, self.lost = State.READY, "", ()

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        """Turn the entries of /v1/models into offers. A server that says no more is believed to chat and call tools,
        but not to see: a wrong guess there would drop images silently on some servers."""
        return [self.offer(entry["id"]) for entry in listed]

    def offer(self, name: str, **known: Any) -> ModelOffer:
        """An offer of this engine with what is the same for all its models filled in."""
        known.setdefault("features", guessed_features(name))
        return ModelOffer(name=name, slots=self.slots, dialects=self.dialects, **known)

    def offered(self, model: str) -> ModelOffer | None:
        """The offer of this name, exact but for an implied `:latest`."""
        return next((offer for offer in self.offers if same_model(model, offer.name)), None)

    def down(self, why: str) -> None:
        """It cannot be reached: it offers nothing until it can; what it offered is `lost` until then."""
        self.lost = tuple(msgspec.structs.replace(offer, down=True, loaded=False) for offer in self.offers) or self.lost
        self.state, self.detail, self.offers = State.DOWN, why, ()
        self.client.close()

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body` to `route` (a path such as `/v1/chat/completions`) and return the answer at its head.

        A refusal that is the client's own fault is an answer. Raises ContextExceeded, Overloaded (429), BadRequest
        (501), EngineUnauthorized, and EngineFailed for whatever else is not a success (dialects.blame).
        """
        answer = await self.client.request("POST", route, headers or JSON, body)
        if 200 <= answer.status < 300:
            self._refused_us = False
            return answer
        refusal = await whole(answer, ERROR_BODY_BYTES)
        return self._refused(answer.status, answer.headers, refusal)

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        text = _message(body) or f"status {status}"
        if (error := of_engine(status, text, f"the engine {self.name}", _seconds(headers))) is not None:
            if isinstance(error, EngineUnauthorized) and not self._refused_us:
                self._refused_us = True
                logger.warning("an engine refuses this node's credentials", engine=self.name, status=status)
            raise error
        if status in (400, 413) and _is_context(body):
            raise ContextExceeded(text, param="messages")
        kept = {"content-type": headers.get("content-type", "application/json")}
        return WholeAnswer(status, kept, body)


def guessed_features(name: str) -> tuple[str, ...]:
    """What a model is believed to do when its server does not say. Embedding and rerank models are named so."""
    folded = name.casefold()
    if "rerank" in folded:
        return ("rerank",)
    if "embed" in folded or "minilm" in folded or "bge-" in folded:
        return ("embeddings",)
    return ("chat", "completion", "tools")


def read_json(body: bytes) -> Any:
    """A JSON value, or None for what is not JSON: engines are asked politely and may answer anything."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def entries(body: bytes, key: str) -> list[dict[str, Any]]:
    """The objects of a JSON object's list `key`; none where the shape is another."""
    value = read_json(body)
    found = value.get(key) if isinstance(value, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def whole_number(value: Any) -> int:
    """A count out of foreign JSON: a whole number from 0 to a million (the advert's bound), else 0."""
    return value if type(value) is int and 0 <= value <= 1_000_000 else 0


def _error(body: bytes) -> dict[str, Any]:
    value = read_json(body)
    error = value.get("error", value) if isinstance(value, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _message(body: bytes) -> str:
    text = _error(body).get("message")
    return text[:500] if isinstance(text, str) else ""


def _is_context(body: bytes) -> bool:
    error = _error(body)
    known = "exceed_context_size_error" in (error.get("type"), error.get("code"))
    folded = _message(body).casefold()
    return known or error.get("code") == ContextExceeded.code or any(words in folded for words in CONTEXT_WORDS)


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        waited_s = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, waited_s) if math.isfinite(waited_s) else None
