"""What a client is told of an engine that is down or refuses its node: the same, however the news came."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from trio.testing import MockClock

from meshnode.errors import (
    EngineDown,
    EngineFailed,
    EngineUnauthorized,
    FirstTokenTimedOut,
    Overloaded,
    PeerFailed,
    RequestError,
    Unauthorized,
)
from meshnode.model.advert import ModelOffer
from tests.kit.world import EVENT, LAST, ScriptedEngine, World, WorldNode, world

MODEL = "m"
KEY_EVENT = b'data: {"error":{"code":401,"message":"Incorrect API key provided: sk-abc"}}\n\n'


async def pair(where: World, engine: ScriptedEngine) -> tuple[WorldNode, WorldNode]:
    server = await where.add("server", engine=engine)
    asker = await where.add("asker", peers=("server",))
    await asker.until_reachable({"server"}, model_of="server")
    return server, asker


async def error_of(node: WorldNode) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await node.ask(MODEL)
    return caught.value


class Serving(ScriptedEngine):
    """Offers what `offered` says."""

    offered: tuple[ModelOffer, ...] | None = None

    @property
    def offers(self) -> tuple[ModelOffer, ...]:
        return super().offers if self.offered is None else self.offered


async def test_a_down_engine_is_one_error_by_attempt_by_its_node_and_by_advert(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        engine = Serving(MODEL, refuse=EngineDown("the engine e is not reachable: connection refused"))
        server, asker = await pair(where, engine)
        found = [await error_of(asker), await error_of(server)]
        # Its node has noticed, and nobody else knows yet.
        engine.model = "another"
        found.append(await error_of(asker))
        engine.offered = ()
        found.append(await error_of(server))
        # Everybody knows.
        told = server.member.view().adverts[server.id]
        down = tuple(msgspec.structs.replace(offer, down=True, loaded=False) for offer in told.models)
        server.member.describe(msgspec.structs.replace(told, models=down))
        while not all(offer.down for offer in asker.member.view().adverts[server.id].models):
            await asker.member.mesh.changed.wait()
        found += [await error_of(asker), await error_of(server)]
        for error in found:
            assert (type(error), error.status, error.code) == (EngineDown, 503, "engine_down")
            assert "server" in error.message and "engine" in error.message, error.message
            assert "start it there, or ask again later" in error.message.lower()


async def test_a_down_engine_is_another_servers_chance(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        await where.add("other", engine=ScriptedEngine(MODEL))
        node = await where.add("node", peers=("other",), engine=ScriptedEngine(MODEL, refuse=EngineDown("gone")))
        await node.until_reachable({"other"}, model_of="other")
        answer, body = await node.ask_whole(MODEL)
        assert (body, answer.headers["x-meshnode-node"]) == (EVENT + LAST, "other")


@pytest.mark.parametrize("begun", [False, True], ids=["status", "event"])
async def test_an_engine_that_refuses_its_nodes_key_is_that_nodes_fault_and_another_is_asked(
    tmp_path: Path, autojump_clock: MockClock, begun: bool
) -> None:
    async with world(tmp_path) as where:
        refuse = None if begun else EngineUnauthorized("the engine e refuses its node's credentials (status 401)")
        server, asker = await pair(where, ScriptedEngine(MODEL, [KEY_EVENT], refuse=refuse))
        for node in (asker, server):
            error = await error_of(node)
            assert (type(error), error.status, error.code) == (EngineUnauthorized, 502, "engine_unauthorized")
            assert error.message.startswith("server: the engine") and "sk-abc" not in error.message
        await where.add("other", peers=("server",), engine=ScriptedEngine(MODEL))
        await server.until_reachable({"asker", "other"}, model_of="other")
        answer, body = await server.ask_whole(MODEL)
        assert (body, answer.headers["x-meshnode-node"]) == (EVENT + LAST, "other")


@pytest.mark.parametrize("at", ["head", "trailers"])
async def test_no_peer_judges_the_clients_key(tmp_path: Path, autojump_clock: MockClock, at: str) -> None:
    async with world(tmp_path) as where:
        refusal = Unauthorized("no such key")
        engine = ScriptedEngine(MODEL, [EVENT, refusal]) if at == "trailers" else ScriptedEngine(MODEL, refuse=refusal)
        _, asker = await pair(where, engine)
        with pytest.raises(PeerFailed):
            await asker.ask_whole(MODEL)


def test_both_are_failures_of_an_engine_to_breakers_and_health() -> None:
    assert issubclass(EngineDown, EngineFailed) and issubclass(EngineUnauthorized, EngineFailed)
    assert EngineDown.elsewhere and EngineUnauthorized.elsewhere


@pytest.mark.parametrize(
    "refusal", [Overloaded("the engine e is full", retry_after_s=7.0), FirstTokenTimedOut("no first token after 2 s")]
)
async def test_whose_engine_was_full_or_late_is_said_and_when_to_come_back(
    tmp_path: Path, autojump_clock: MockClock, refusal: RequestError
) -> None:
    async with world(tmp_path) as where:
        _, asker = await pair(where, ScriptedEngine(MODEL, refuse=refusal))
        error = await error_of(asker)
        assert error.message == f"server: {refusal.message}"
        assert (type(error), error.retry_after_s) == (type(refusal), refusal.retry_after_s)
