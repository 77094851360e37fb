"""Finding engines: by what answers, never ourselves, and none delays another."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from meshnode.config.engine import EngineSection
from meshnode.engine.adapter import Engine, State
from meshnode.engine.adapters import LlamaServer, LmStudio, Ollama, Vllm
from meshnode.engine.client import EngineClient
from meshnode.engine.probe import SILENT_PROBES, Place, detect
from meshnode.errors import EngineFailed
from meshnode.testing import Behaviour, FakeEngine
from tests.engine.conftest import Script
from tests.engine.wire import answer

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"


def models(owner: str) -> bytes:
    return answer(json.dumps({"object": "list", "data": [{"id": "m", "owned_by": owner}]}).encode())


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([NOT_FOUND, models("llamacpp")], LlamaServer),
        ([NOT_FOUND, b"HTTP/1.1 503 X\r\nContent-Length: 13\r\n\r\nLoading model"], LlamaServer),
        ([NOT_FOUND, models("vllm")], Vllm),
        ([NOT_FOUND, models("library"), answer(b'{"version":"0.9.0"}')], Ollama),
        ([NOT_FOUND, answer(b'{"object":"list","data":null}'), answer(b'{"version":"0.9.0"}')], Ollama),
        ([NOT_FOUND, models("organization_owner"), NOT_FOUND, answer(b'{"data":[]}')], LmStudio),
        ([NOT_FOUND, models("someone"), NOT_FOUND, NOT_FOUND], Engine),
        ([NOT_FOUND, NOT_FOUND], None),
        ([NOT_FOUND, answer(b"<html>a web shop</html>")], None),
        ([NOT_FOUND, answer(b'["data"]')], None),
        ([NOT_FOUND, answer(b'{"hello":1}')], None),
        ([NOT_FOUND, answer(b"[" * 20_000)], None),
        ([answer(b'{"status":"ok","meshnode":"0.1.0"}')], None),
        ([answer(b"ok", "X-Meshnode-Node: nq4f-7kta")], None),
    ],
)
async def test_what_answers_says_what_it_is(scripted: Script, script: list[bytes], kind: type[Engine] | None) -> None:
    server, client = await scripted(script)
    found = await detect(client, EngineSection())
    assert (type(found) if found is not None else None) is kind
    assert len(server.requests) == len(script)


async def test_the_fake_is_taken_for_what_it_imitates(fake: FakeEngine, client: EngineClient) -> None:
    assert type(await detect(client, EngineSection())) is LlamaServer


async def test_nothing_there_is_an_error_of_its_own() -> None:
    with pytest.raises(EngineFailed):
        await detect(EngineClient("http://127.0.0.1:1"), EngineSection())


Placing = Callable[..., Place]


@pytest.fixture
async def placing() -> AsyncIterator[Placing]:
    """Makes places that keep no connection after the test."""
    made: list[Place] = []

    def place(url: str, **settings: Any) -> Place:
        made.append(Place(url, EngineSection(**settings), lambda: None, configured=True))
        return made[-1]

    yield place
    for each in made:
        each.close()


async def test_an_engine_that_goes_is_offered_no_more_and_again_when_it_comes_back(
    fake: FakeEngine, placing: Placing
) -> None:
    changes: list[tuple[str, ...]] = []
    place = placing(fake.url)
    for step in (None, fake.die, fake.revive):
        if step is not None:
            step()
            await trio.testing.wait_all_tasks_blocked()
        await place.look()
        assert place.engine is not None
        changes.append((place.engine.state.value, *(offer.name for offer in place.engine.offers)))
    assert changes == [("ready", "fake-model"), ("down",), ("ready", "fake-model")]


class Machine:
    """A place on the virtual clock, and an engine there that is killed and started: `seen` are its states and when."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.fake = FakeEngine()
        self.alive = True
        self.seen: list[tuple[str, float]] = []
        self._nursery = nursery
        self._began = trio.current_time()
        self.client = EngineClient("http://fake", EngineSection(), dial=self._dial)
        self.place = Place("http://fake", EngineSection(), self._changed, configured=True)
        self.place._client = self.client
        nursery.start_soon(self.place.run)

    def _changed(self) -> None:
        assert self.place.engine is not None
        self.seen.append((self.place.engine.state.value, trio.current_time() - self._began))

    async def _dial(self) -> trio.abc.Stream:
        if not self.alive:
            raise ConnectionRefusedError
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self.fake.serve_stream, theirs)
        return ours

    async def killed(self) -> None:
        """And asked by somebody, who finds nobody there."""
        self.alive = False
        self.client.close()
        with pytest.raises(EngineFailed, match="not reachable"):
            await self.client.read("GET", "/health")


async def test_a_request_that_finds_no_engine_has_it_looked_for_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    machine = Machine(nursery)
    await trio.sleep(13.0)
    await machine.killed()
    await trio.sleep(1.0)
    assert [state for state, _ in machine.seen] == ["ready", "down"]
    assert machine.seen[-1][1] == pytest.approx(13.0)


async def test_an_engine_that_was_killed_is_found_again_within_a_second(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    machine = Machine(nursery)
    await trio.sleep(13.0)
    await machine.killed()
    await trio.sleep(0.7)
    machine.alive = True
    await trio.sleep(1.0)
    assert [state for state, _ in machine.seen] == ["ready", "down", "ready"]


async def test_an_engine_that_stays_away_is_looked_for_ever_more_rarely(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    machine = Machine(nursery)
    await trio.sleep(1.0)
    await machine.killed()
    looked: list[float] = []

    async def dial() -> trio.abc.Stream:
        looked.append(trio.current_time())
        raise ConnectionRefusedError

    machine.client._connect = dial
    await trio.sleep(60.0)
    pauses = [later - one for one, later in itertools.pairwise(looked)]
    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0][: len(pauses)])
    assert len(pauses) > 6


async def test_another_kind_of_engine_on_the_same_port_is_noticed(scripted: Script, placing: Placing) -> None:
    first = [NOT_FOUND, models("vllm"), models("vllm")]
    after = [NOT_FOUND, models("other"), NOT_FOUND, NOT_FOUND, models("other")]
    server, _ = await scripted(first, [b"gone"], after)
    place = placing(f"http://127.0.0.1:{server.port}")
    kinds = []
    for _ in range(3):
        await place.look()
        assert place.engine is not None
        kinds.append((place.engine.kind, place.engine.state))
    assert kinds == [("vllm", State.READY), ("vllm", State.DOWN), ("openai", State.READY)]


async def silent(nursery: trio.Nursery) -> str:
    """Something that takes connections and says nothing."""

    async def hold(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, hold, listeners)
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


async def test_a_silent_place_delays_nobody(fake: FakeEngine, nursery: trio.Nursery) -> None:
    section = EngineSection(probe_timeout_s=3600)
    good = Place(fake.url, section, lambda: None, configured=True)
    bad = Place(await silent(nursery), section, lambda: None, configured=True)
    async with trio.open_nursery() as watching:
        watching.start_soon(bad.run)
        watching.start_soon(good.run)
        await good.looked.wait()
        assert good.engine is not None and not bad.looked.is_set()
        watching.cancel_scope.cancel()


async def test_silence_is_an_end_only_when_it_lasts_and_nothing_runs(fake: FakeEngine, placing: Placing) -> None:
    section = EngineSection(probe_timeout_s=0.01)
    place = placing(fake.url)
    await place.look()
    engine = place.engine
    assert engine is not None
    place._section = section

    async def hang() -> None:
        await trio.sleep_forever()

    engine.refresh = hang  # type: ignore[method-assign]
    fake.behaviour = Behaviour(hang="stream")
    running = await engine.serve("/v1/chat/completions", {}, b'{"messages":[],"stream":true}')
    for _ in range(SILENT_PROBES + 1):
        await place.look()
    assert engine.state is State.READY
    await running.aclose()
    seen = []
    for _ in range(SILENT_PROBES):
        await place.look()
        seen.append(engine.state)
    assert seen == [State.READY, State.READY, State.DOWN]
