"""All engines of a node together: what is offered, who serves, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State
from meshnode.engine.engines import Engines
from meshnode.engine.models import ModelSource
from meshnode.errors import ConfigError, EngineUnavailable
from meshnode.model.advert import ModelOffer
from meshnode.testing import Behaviour, FakeEngine
from tests.kit.waiting import PATIENCE_S

NOWHERE = ModelSource(url="file:///nonexistent/model.gguf")


class Published:
    """Engines and each set of offers that was published."""

    def __init__(self, section: EngineSection, probed: tuple[str, ...] = ()) -> None:
        self.seen: list[list[str]] = []
        self.engines = Engines(section, Path("/nonexistent"), self._publish, probed=probed, source=NOWHERE)
        self._news = trio.Event()

    def _publish(self) -> None:
        self.seen.append([offer.name for offer in self.engines.offers()])
        news, self._news = self._news, trio.Event()
        news.set()

    async def until(self, names: list[str]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not self.seen or self.seen[-1] != names:
                await self._news.wait()


async def test_a_model_whose_engine_went_down_is_still_told_of_as_down(nursery: trio.Nursery, fake: FakeEngine) -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(engines=("none",), urls=(fake.url,), probe_s=0.05))
        await running.start(published.engines.run)
        await published.until(["fake-model"])
        fake.die()
        await published.until([])
        (lost,) = published.engines.advertised()
        assert (lost.name, lost.down, lost.loaded) == ("fake-model", True, False)
        assert published.engines.find("fake-model") is None
        fake.revive()
        await published.until(["fake-model"])
        assert [offer.down for offer in published.engines.advertised()] == [False]
        running.cancel_scope.cancel()


async def test_engines_that_come_and_go_are_published(nursery: trio.Nursery, fake: FakeEngine) -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(urls=(fake.url,), probe_s=0.02))
        await running.start(published.engines.run)
        await published.engines.first_ready()
        assert published.engines.find("fake-model") is not None
        fake.die()
        await published.until([])
        assert published.engines.find("fake-model") is None
        fake.revive()
        await published.until(["fake-model"])
        running.cancel_scope.cancel()
    assert published.seen == [["fake-model"], [], ["fake-model"]]


async def test_auto_does_not_embed_where_an_engine_is_found(fake: FakeEngine) -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(), probed=(fake.url, "http://127.0.0.1:1"))
        await running.start(published.engines.run)
        await published.engines.first_ready()
        for place in published.engines.places:
            await place.looked.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert published.engines.embedded is None
        assert [line["kind"] for line in published.engines.status()] == ["llama-server"]
        running.cancel_scope.cancel()


async def test_auto_waits_for_an_engine_that_is_loading(fake: FakeEngine) -> None:
    fake.loading = True
    async with trio.open_nursery() as running:
        published = Published(EngineSection(probe_s=0.02), probed=(fake.url,))
        await running.start(published.engines.run)
        await published.engines.places[0].looked.wait()
        assert published.engines.status()[0]["state"] == "loading"
        fake.loading = False
        await published.until(["fake-model"])
        assert published.engines.embedded is None
        running.cancel_scope.cancel()


async def test_auto_embeds_where_nothing_is_found() -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(), probed=("http://127.0.0.1:1",))
        await running.start(published.engines.run)
        with pytest.raises(EngineUnavailable):
            await published.engines.first_ready()
        (line,) = published.engines.status()
        assert (line["name"], line["state"], line["models"]) == ("embedded", "down", [])
        running.cancel_scope.cancel()


async def test_a_configured_engine_that_is_absent_is_told() -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(urls=("http://127.0.0.1:1",)))
        await running.start(published.engines.run)
        await published.engines.places[0].looked.wait()
        line = published.engines.status()[0]
        assert (line["url"], line["state"]) == ("http://127.0.0.1:1", "down")
        assert "refused" in line["detail"]
        running.cancel_scope.cancel()


async def test_none_serves_nothing() -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(engines=("none",)))
        await running.start(published.engines.run)
        with pytest.raises(EngineUnavailable):
            await published.engines.first_ready()
        assert published.engines.status() == []
        running.cancel_scope.cancel()


async def test_none_leaves_the_urls_that_were_given(fake: FakeEngine) -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(engines=("none",), urls=(fake.url,)))
        await running.start(published.engines.run)
        await published.engines.first_ready()
        assert [line["url"] for line in published.engines.status()] == [fake.url]
        running.cancel_scope.cancel()


async def test_none_and_a_url_where_nobody_answers_is_said(fake: FakeEngine) -> None:
    async with trio.open_nursery() as running:
        published = Published(EngineSection(engines=("none",), urls=("http://127.0.0.1:1",)))
        await running.start(published.engines.run)
        with pytest.raises(EngineUnavailable, match="no engine answers at"):
            await published.engines.first_ready()
        running.cancel_scope.cancel()


async def test_words_and_urls_that_are_not_known_are_refused() -> None:
    with pytest.raises(ConfigError, match="'vulcan' is none of auto"):
        Published(EngineSection(engines=("vulcan",)))
    with pytest.raises(ConfigError, match=r"engine\.urls"):
        Published(EngineSection(urls=("file:///etc/passwd",)))


async def test_several_engines_with_one_model_are_one_offer(nursery: trio.Nursery) -> None:
    fakes = [FakeEngine(slots=2, context=1000), FakeEngine(slots=3, context=2000)]
    for fake in fakes:
        await nursery.start(fake.run)
    async with trio.open_nursery() as running:
        published = Published(EngineSection(urls=tuple(fake.url for fake in fakes)))
        engines = published.engines
        await running.start(engines.run)
        for place in engines.places:
            await place.looked.wait()
        (offer,) = engines.offers()
        assert (offer.slots, offer.context) == (5, 2000)
        roomy = engines.find("fake-model", context=1500)
        assert roomy is not None and roomy.url == fakes[1].url

        fakes[0].behaviour = Behaviour(hang="stream")
        first = engines.find("fake-model")
        assert first is not None and first.url == fakes[0].url
        held = await first.serve("/v1/chat/completions", {}, b'{"messages":[],"stream":true}')
        second = engines.find("fake-model")
        assert second is not None and second.url == fakes[1].url
        await held.aclose()
        running.cancel_scope.cancel()


async def test_only_an_engine_that_can_is_found(fake: FakeEngine) -> None:
    published = Published(EngineSection(urls=(fake.url,)))
    place = published.engines.places[0]
    await place.look()
    found = [
        published.engines.find(model, needs)
        for model, needs in [("fake-model", {"chat", "tools"}), ("fake-model", {"vision"}), ("other", set())]
    ]
    assert found == [place.engine, None, None]
    place.close()


async def test_an_engine_that_has_it_loaded_is_preferred(fake: FakeEngine) -> None:
    published = Published(EngineSection(urls=(fake.url, "http://127.0.0.1:1")))
    first, second = published.engines.places
    for place, loaded in ((first, False), (second, True)):
        place.engine = Engine(place._client, EngineSection())
        place.engine.state = State.READY
        place.engine.offers = (ModelOffer(name="m", loaded=loaded),)
    assert published.engines.find("m") is second.engine


def test_an_engine_named_with_v1_is_not_found_a_second_time() -> None:
    section = EngineSection(engines=("auto",), urls=("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/"))
    engines = Published(section, probed=("http://127.0.0.1:8000", "http://127.0.0.1:1234")).engines
    assert [(place.url, place.configured) for place in engines.places] == [
        ("http://127.0.0.1:8000", True),
        ("http://127.0.0.1:1234", False),
    ]
