"""Owns every engine of this node: those found, those configured, and the one it runs itself.

Answers at once what is offered now; finding and starting go on behind it. Not for queueing (slots) nor for choosing
between nodes (routing). Counterpart: `dispatch`, which asks `find` and calls `serve` on what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import msgspec
import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State
from meshnode.engine.client import EngineClient, base_url
from meshnode.engine.embedded import Embedded
from meshnode.engine.models import SMOLLM2, ModelSource
from meshnode.engine.probe import DEFAULT_URLS, Place
from meshnode.errors import ConfigError, EngineFailed, EngineUnavailable
from meshnode.model.advert import ModelOffer

CHOICES = ("auto", "embedded", "none")
"""Words of `engine.engines`."""

MAX_OFFERS = 64
"""As many as an advert holds."""


class Engines:
    """The engines of one node. `publish` is called whenever `advertised()` has changed.

    `folder` keeps model files; nodes of one machine may share it. `probed` replaces the default addresses in tests.
    Raises ConfigError for words of `engine.engines` and for `engine.urls` that cannot be meant.
    """

    def __init__(
        self,
        section: EngineSection,
        folder: Path,
        publish: Callable[[], None],
        *,
        probed: tuple[str, ...] = DEFAULT_URLS,
        source: ModelSource = SMOLLM2,
    ) -> None:
        _check(section)
        self.embedded: Embedded | None = None
        self.places = _places(section, probed, self._changed)
        self._section = section
        self._folder = folder
        self._source = source
        self._publish = publish
        self._published: tuple[ModelOffer, ...] = ()
        self._news = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch and run engines until cancelled; every process is over when this is left. Started at once: engines
        come up behind it."""
        async with trio.open_nursery() as nursery:
            for place in self.places:
                nursery.start_soon(place.run)
            task_status.started()
            if "none" not in self._section.engines and await self._wants_embedded():
                self.embedded = Embedded(self._section, self._folder, self._changed, self._source)
                nursery.start_soon(self.embedded.run)
                self._changed()
            await trio.sleep_forever()

    async def _wants_embedded(self) -> bool:
        if "embedded" in self._section.engines:
            return True
        for place in self.places:
            await place.looked.wait()
        return not any(engine.offers or engine.state is State.LOADING for engine in self.engines())

    def engines(self) -> list[Engine]:
        """Every engine known, up or down, the configured ones first."""
        owners: list[Place | Embedded] = [*self.places]
        if self.embedded is not None:
            owners.append(self.embedded)
        return [owner.engine for owner in owners if owner.engine is not None]

    def offers(self) -> tuple[ModelOffer, ...]:
        """What this node serves now, one offer for each name: slots added up, the largest context, all features."""
        merged: dict[str, ModelOffer] = {}
        for engine in self.engines():
            for offer in engine.offers:
                known = merged.get(offer.name)
                merged[offer.name] = offer if known is None else _both(known, offer)
        return tuple(merged.values())[:MAX_OFFERS]

    def advertised(self) -> tuple[ModelOffer, ...]:
        """The offers, and models whose engine has gone down: whoever asks for one is told so, and not that it does not
        exist."""
        offers = self.offers()
        names = {offer.name for offer in offers}
        lost = {offer.name: offer for engine in self.engines() for offer in engine.lost if offer.name not in names}
        return (*offers, *lost.values())[:MAX_OFFERS]

    def files(self) -> dict[str, Path]:
        """Where the weights of models are, as far as engines of this machine say it."""
        return {name: path for engine in self.engines() for name, path in engine.files.items()}

    def find(self, model: str, needs: Set[str] = frozenset(), context: int = 0) -> Engine | None:
        """The engine to serve `model`: ready, able to do `needs` (words of FEATURES), with at least `context` tokens
        for a request where it is known; among several the least busy. None when there is none."""
        best: tuple[tuple[bool, float], Engine] | None = None
        for engine in self.engines():
            offer = engine.offered(model)
            if offer is None or not needs <= set(offer.features) or 0 < offer.context < context:
                continue
            rank = (not offer.loaded, engine.running / engine.slots)
            if best is None or rank < best[0]:
                best = (rank, engine)
        return best[1] if best is not None else None

    def status(self) -> list[dict[str, Any]]:
        """For people and `/mesh/status`: each engine's name, kind, url, state, detail, models and slots, and
        `progress` in bytes while a model is being fetched."""
        told = [_line(engine, engine.state, engine.detail) for place in self.places if (engine := place.engine)]
        told += [
            {"name": place.url, "kind": "", "url": place.url, "state": State.DOWN.value, "detail": place.detail,
             "models": [], "slots": 0, "running": 0}
            for place in self.places if place.engine is None and place.configured
        ]  # fmt: skip
        if self.embedded is not None:
            told.append(_embedded_line(self.embedded))
        return told

    async def first_ready(self) -> None:
        """Wait until something is offered. Raises EngineUnavailable when the embedded engine was the last hope and
        cannot be had, or when this node was told to run none and no configured URL answers."""
        while not self.offers():
            if "none" in self._section.engines:
                for place in self.places:
                    await place.looked.wait()
                if self.offers():
                    return
                urls = ", ".join(place.url for place in self.places)
                raise EngineUnavailable(
                    f"no engine answers at {urls}" if urls else "this node is configured to serve no model"
                )
            if self.embedded is not None and self.embedded.failed:
                raise EngineUnavailable(self.embedded.failed)
            await self._news.wait()

    def _changed(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()
        offers = self.advertised()
        if offers != self._published:
            self._published = offers
            self._publish()


def _check(section: EngineSection) -> None:
    known = ", ".join(CHOICES)
    faults = [f"engine.engines: {word!r} is none of {known}" for word in section.engines if word not in CHOICES]
    for url in section.urls:
        try:
            EngineClient(url, section)
        except EngineFailed as error:
            faults.append(f"engine.urls: {error}")
    if faults:
        raise ConfigError(faults)


def _places(section: EngineSection, probed: tuple[str, ...], changed: Callable[[], None]) -> list[Place]:
    """Where to look, configured URLs first; none twice. "none" looks nowhere else."""
    wanted = dict.fromkeys((base_url(url) for url in section.urls), True)
    if "auto" in section.engines and "none" not in section.engines:
        wanted |= {url: False for url in probed if url not in wanted}
    return [Place(url, section, changed, configured=configured) for url, configured in wanted.items()]


def _both(one: ModelOffer, other: ModelOffer) -> ModelOffer:
    features = (*one.features, *(word for word in other.features if word not in one.features))
    return msgspec.structs.replace(
        one,
        context=max(one.context, other.context),
        slots=min(4096, one.slots + other.slots),
        loaded=one.loaded or other.loaded,
        features=features,
        dialects=tuple(word for word in one.dialects if word in other.dialects),
    )


def _line(engine: Engine, state: State, detail: str) -> dict[str, Any]:
    return {
        "name": engine.name,
        "kind": engine.kind,
        "url": engine.url,
        "state": state.value,
        "detail": detail,
        "models": [offer.name for offer in engine.offers],
        "slots": engine.slots,
        "running": engine.running,
    }


def _embedded_line(embedded: Embedded) -> dict[str, Any]:
    line: dict[str, Any] = {"name": "embedded", "kind": "embedded", "url": "", "models": [], "slots": 0, "running": 0}
    if embedded.engine is not None:
        line = _line(embedded.engine, embedded.state, embedded.detail)
    line |= {"state": embedded.state.value, "detail": embedded.detail}
    if embedded.progress is not None:
        done, total = embedded.progress
        line["progress"] = {"done_bytes": done, "total_bytes": total}
    return line
