"""The embedded default: with no engine on the machine, the first question is still answered.

Fetches its model once, then runs llama.cpp's server in a child. Slow and small by nature: it is there so that a mesh
can be tried anywhere. Not for real models. Counterpart: embedded_child.py.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State, read_json
from meshnode.engine.adapters.llama_server import LlamaServer
from meshnode.engine.client import EngineClient
from meshnode.engine.models import SMOLLM2, ModelSource, ModelStore
from meshnode.engine.supervisor import Supervisor
from meshnode.errors import EngineFailed, EngineUnavailable
from meshnode.model.advert import ModelOffer
from meshnode.observe import log

logger = log.get("engine")

CHILD = Path(__file__).with_name("embedded_child.py")

MODEL_NAME = "smollm2:135m"
"""As Ollama's library names the same weights."""


class EmbeddedServer(LlamaServer):
    """The child as an engine. It is started with embeddings on, which a llama-server does not say of itself; and the
    weights were checked against their digest before."""

    kind = "embedded"
    source: ModelSource | None = None

    async def describe(self, listed: list[dict[str, Any]]) -> Iterable[ModelOffer]:
        offers = await super().describe(listed)
        if self.source is None:
            return offers
        known = {"family": self.source.family, "digest": bytes.fromhex(self.source.sha256)}
        quant = self.source.quant
        return [replace(offer, **known, quant=quant or offer.quant) for offer in offers]

    async def features(self, props: dict[str, Any]) -> tuple[str, ...]:
        return (*await super().features(props), "embeddings")


class Embedded:
    """The embedded engine from nothing to serving. `engine` is None until it first served; `state`, `detail` and
    `progress` (bytes fetched, bytes in all; None when nothing is being fetched) are what people are told.

    `failed` is set while it cannot be had at all: software or model missing.
    """

    kind = "embedded"

    def __init__(
        self, section: EngineSection, folder: Path, changed: Callable[[], None], source: ModelSource = SMOLLM2
    ) -> None:
        self.engine: Engine | None = None
        self.state = State.STARTING
        self.detail = ""
        self.progress: tuple[int, int] | None = None
        self.failed = ""
        self.supervisor: Supervisor | None = None
        self._section = section
        self._store = ModelStore(folder)
        self._changed = changed
        self._source = source

    async def run(self) -> None:
        """Until cancelled. What cannot be had now is tried again later: a laptop may come online."""
        try:
            while True:
                try:
                    await self._serve()
                except EngineUnavailable as error:
                    logger.warning("embedded engine is not available", reason=str(error))
                    if self.engine is not None:
                        self.engine.down(str(error))
                    self._tell(State.DOWN, str(error), failed=True)
                await trio.sleep(self._section.restart_max_s)
        finally:
            if self.engine is not None:
                self.engine.client.close()

    async def _serve(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise EngineUnavailable("the embedded engine is not installed: pip install 'meshnode[embedded]'")
        model = await self._model()
        self._tell(State.LOADING, "loading its model")
        section = self._section
        command = [sys.executable, "-P", str(CHILD), "--model", str(model), "--alias", MODEL_NAME,
                   "--context", str(section.embedded_context), "--slots", str(section.embedded_slots),
                   "--threads", str(section.embedded_threads)]  # fmt: skip
        self.supervisor = Supervisor(command, section, self._ready, self._down)
        await self.supervisor.run()

    async def _model(self) -> Path:
        found = await self._store.have(self._source)
        if found is not None:
            return found
        if not self._section.download:
            raise EngineUnavailable("the embedded engine has no model, and engine.download is off")
        self._tell(State.LOADING, "fetching its model")
        self.progress = (0, self._source.download_bytes)
        try:
            return await self._store.fetch(self._source, self._fetched)
        finally:
            self.progress = None

    def _fetched(self, done: int, total: int) -> None:
        self.progress = (done, total)

    async def _ready(self, line: bytes) -> None:
        said = read_json(line)
        url = said.get("url") if isinstance(said, dict) else None
        if not isinstance(url, str):
            raise EngineFailed("the embedded engine does not say where it listens")
        engine = EmbeddedServer(EngineClient(url, self._section), self._section, name="embedded")
        engine.source = self._source
        await engine.refresh()
        if engine.state is not State.READY:
            raise EngineFailed("the embedded engine is loading")
        self.engine = engine
        self._tell(State.READY, "")

    def _down(self, why: str) -> None:
        if self.engine is not None:
            self.engine.down(why)
        self._tell(State.DOWN, why)

    def _tell(self, state: State, detail: str, *, failed: bool = False) -> None:
        self.state, self.detail, self.failed = state, detail, detail if failed else ""
        self._changed()
