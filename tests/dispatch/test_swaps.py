"""An engine that has room for one model at a time: requests for two are served with few loads, and all are served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import trio
from trio.testing import MockClock

from meshnode.model.advert import ModelOffer
from meshnode.slots.residency import TENURE_S
from tests.kit.world import EVENT, LAST, ScriptedAnswer, ScriptedEngine, WorldNode, world

MODELS = ("p", "q")
LOAD_S = 4.0
ANSWER_S = 0.5


class Swapping(ScriptedEngine):
    """Offers both, and puts the one that is asked for in the other's place, once that has nothing to do; as Ollama
    does on a small machine."""

    inside = "p"
    served_models: tuple[str, ...] = ()

    @property
    def offers(self) -> tuple[ModelOffer, ...]:
        return tuple(ModelOffer(name, slots=self.slots, loaded=name in self._resident) for name in MODELS)

    @property
    def resident(self) -> frozenset[str]:
        return self._resident

    def look(self) -> None:
        """What a probe finds."""
        self._resident = frozenset((self.inside,))

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> ScriptedAnswer:
        model = json.loads(body)["model"]
        if model != self.inside:
            await trio.sleep(LOAD_S)
            self.inside = model
        self.served_models += (model,)
        return await super().serve(route, headers, body)

    @property
    def loads(self) -> int:
        return sum(one != other for one, other in zip(("p", *self.served_models), self.served_models, strict=False))


async def test_requests_for_two_models_share_one_engine_with_few_loads(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = Swapping("p", [ANSWER_S, EVENT, LAST], slots=1)
        engine.look()
        server = await where.add("server", engine=engine, settings={"engine": {"queue_min": 100}})

        async def probe() -> None:
            while True:
                await trio.sleep(1.0)
                engine.look()

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe)
            async with trio.open_nursery() as asking:
                for number in range(40):
                    asking.start_soon(ask, server, MODELS[number % 2])
            nursery.cancel_scope.cancel()
        assert sorted(engine.served_models) == ["p"] * 20 + ["q"] * 20
        # In the order in which they came it would be 39; each that was loaded is there for a while.
        assert engine.loads <= 1 + (trio.current_time() - began) / TENURE_S


async def ask(server: WorldNode, model: str) -> None:
    answer = await server.dispatcher.dispatch(server.job(model, timeout_s=600.0))
    assert b"".join([chunk async for chunk in answer]) == EVENT + LAST
