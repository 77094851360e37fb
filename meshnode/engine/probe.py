"""Finds the engines of this machine and of the configuration, and notices when one goes or comes back.

Each place is watched by a task of its own, so that a dead one delays no other. Not for starting engines
(supervisor.py). URLs come from the configuration alone, never from a peer or a client. Counterpart: whatever listens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State, entries, read_json
from meshnode.engine.adapters import LlamaServer, LmStudio, Ollama, Vllm
from meshnode.engine.client import EngineClient, whole
from meshnode.errors import EngineFailed
from meshnode.observe import log

logger = log.get("engine")

DEFAULT_URLS = (
    "http://127.0.0.1:11434",
    "http://127.0.0.1:8080",
    "http://127.0.0.1:8000",
    "http://127.0.0.1:1234",
    "http://127.0.0.1:1337",
)
"""Where Ollama, llama-server and mlx_lm.server, vLLM, LM Studio, and Jan or other MLX servers listen by default."""

SILENT_PROBES = 3
"""Probes in a row without an answer before an engine that still holds its port counts as down."""

MOST_DOUBLED = 16
"""Times that a pause is doubled; it is bounded by `probe_s` long before."""


async def detect(client: EngineClient, section: EngineSection) -> Engine | None:
    """Which kind of engine answers here; None for something that is no engine, or is a meshnode.

    Raises EngineFailed when nothing answers.
    """
    if await _is_meshnode(client):
        return None
    status, body = await client.read("GET", "/v1/models")
    if status == 503 and "oading" in body[:500].decode("latin-1"):
        return LlamaServer(client, section)
    listed = read_json(body)
    if status != 200 or not isinstance(listed, dict) or not isinstance(listed.get("data", False), list | None):
        return None
    owners = {str(entry.get("owned_by", "")) for entry in entries(body, "data")}
    if "llamacpp" in owners:
        return LlamaServer(client, section)
    if "vllm" in owners:
        return Vllm(client, section)
    if "version" in await _object(client, "/api/version"):
        return Ollama(client, section)
    if "data" in await _object(client, "/api/v0/models"):
        return LmStudio(client, section)
    return Engine(client, section)


async def _is_meshnode(client: EngineClient) -> bool:
    """Whether a node's own front answers here: fronting it would send requests in a circle."""
    answer = await client.request("GET", "/healthz")
    body = read_json(await whole(answer, 65_536))
    return "x-meshnode-node" in answer.headers or (isinstance(body, dict) and "meshnode" in body)


async def _object(client: EngineClient, path: str) -> dict[str, Any]:
    status, body = await client.read("GET", path)
    value = read_json(body)
    return value if status == 200 and isinstance(value, dict) else {}


class Place:
    """A URL where an engine may be, watched for as long as the node runs.

    `engine` is the one found there (kept while it is down, since it may come back), None before. `configured` places
    are named in the configuration, so their absence is worth telling. `changed` is called when what is offered or its
    state changed.
    """

    def __init__(self, url: str, section: EngineSection, changed: Callable[[], None], *, configured: bool) -> None:
        self.url = url
        self.engine: Engine | None = None
        self.detail = "not looked at yet"
        self.configured = configured
        self.looked = trio.Event()
        self._section = section
        self._client = EngineClient(url, section)
        self._changed = changed
        self._silent = 0
        self._missed = 0

    async def run(self) -> None:
        """Look now and every `probe_s`, sooner where a request found nobody there or an engine is awaited back. No
        connection is kept once this is left."""
        try:
            while True:
                before = self._seen()
                await self.look()
                self.looked.set()
                if self._seen() != before:
                    self._changed()
                await self._wait()
        finally:
            self.close()

    async def _wait(self) -> None:
        """Until the next look."""
        self._client.unreachable = trio.Event()
        awaited = self.engine.state is State.DOWN if self.engine is not None else self.configured
        self._missed = self._missed + 1 if awaited else 0
        least_s = self._section.restart_min_s
        # A process that was killed is mostly started again within seconds, by whatever keeps it running.
        pause_s = least_s * 2 ** min(self._missed - 1, MOST_DOUBLED) if awaited else self._section.probe_s
        await trio.sleep(min(least_s, self._section.probe_s))
        with trio.move_on_after(max(0.0, min(pause_s, self._section.probe_s) - least_s)):
            await self._client.unreachable.wait()

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    async def look(self) -> None:
        """One probe, with an end in time."""
        with trio.move_on_after(self._section.probe_timeout_s) as scope:
            try:
                await self._ask()
            except EngineFailed as error:
                self._lost(error.message)
        if scope.cancelled_caught:
            self._unanswered()

    async def _ask(self) -> None:
        engine = self.engine
        if engine is None or engine.state is State.DOWN:
            # Another engine may listen there by now.
            found = await detect(self._client, self._section)
            if found is None:
                self.engine, self.detail = None, "what answers there is not an engine"
                return
            if engine is None or type(engine) is not type(found):
                engine = found
        await engine.refresh()
        if self.engine is not engine or self.detail:
            logger.info("engine found", engine=engine.name, state=engine.state.value, models=len(engine.offers))
        self.engine, self.detail, self._silent = engine, "", 0

    def _unanswered(self) -> None:
        """A server of one thread does not answer a probe while it answers a request; only silence that lasts with
        nothing running means that it is gone."""
        engine = self.engine
        if engine is not None and engine.running:
            return
        self._silent += 1
        if engine is None or self._silent >= SILENT_PROBES:
            self._lost(f"the engine at {self.url} does not answer")

    def _lost(self, why: str) -> None:
        self.detail = why
        engine = self.engine
        if engine is not None and engine.state is not State.DOWN:
            logger.warning("engine lost", engine=engine.name, reason=why)
            engine.down(why)

    def _seen(self) -> tuple[object, ...]:
        engine = self.engine
        return (engine, engine.state, engine.offers) if engine is not None else (None,)
