"""A client that was told to wait has its stream already: it still gets another server's answer when the first is lost.

Before the first token of an answer nothing binds a request to a server, though its client has seen a head of 200 and
keepalives by then.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dialects import KEEPALIVE
from meshnode.errors import EngineFailed
from meshnode.front.streaming import StreamedReply
from tests.front.fakes import Recorder
from tests.kit.world import EVENT, LAST, Script, ScriptedEngine, WorldNode, world

MODEL = "m"
KEEPALIVE_S = 2.0
LOST_S = 7.0

FAULTS: dict[str, Script] = {
    "fails": [LOST_S, EngineFailed("died")],
    "speaks nonsense": [LOST_S, b"data: {no\n\n"],
    "ends": [LOST_S],
    "hangs": [10_000.0],
    "leaves": [10_000.0],
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_another_server_answers_a_client_that_was_told_to_wait(
    tmp_path: Path, autojump_clock: MockClock, fault: str
) -> None:
    async with world(tmp_path) as where:
        engines = {"bad": ScriptedEngine(MODEL, list(FAULTS[fault])), "good": ScriptedEngine(MODEL)}
        nodes = {name: await where.add(name, engine=engine) for name, engine in engines.items()}
        settings = {"dispatch": {"hang_known_s": LOST_S, "hedge_share": 0.0}}
        asker = await where.add("asker", peers=tuple(engines), settings=settings)
        for name in engines:
            await asker.until_reachable(set(engines), model_of=name)
        while not engines["bad"].served:
            reply = Recorder()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(told_to_wait, asker, reply)
                await trio.sleep(LOST_S)
                if fault == "leaves" and engines["bad"].served:
                    nodes["bad"].scope.cancel()
            assert (reply.status, reply.ended) == (200, True)
        # Recorder refuses a second head, and whatever comes after the end.
        assert reply.body.startswith(KEEPALIVE)
        assert reply.body.replace(KEEPALIVE, b"") == EVENT + LAST


async def told_to_wait(asker: WorldNode, reply: Recorder) -> None:
    job = asker.job(MODEL, timeout_s=600.0)
    streamed = StreamedReply(reply, job, KEEPALIVE_S, job.deadline + 2.0, asker.dispatcher.place)
    await streamed.run(asker.dispatcher.dispatch)
