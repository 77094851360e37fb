"""What no client can read reaches none: another server is asked, or the stream ends with an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from meshnode.dialects import Unjudged
from meshnode.errors import EngineFailed, PeerFailed
from tests.kit.world import EVENT, LAST, ScriptedAnswer, ScriptedEngine, World, WorldNode, world

MODEL = "m"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}\n\n'
NO_JSON = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}\n\n'
NO_UTF8 = b'data: {"choices":[{"index":0,"delta":{"content":"\xc3"}}]}\n\n'
SPOILT = pytest.mark.parametrize("spoilt", [NO_JSON, NO_UTF8], ids=["json", "utf8"])


@dataclass
class WholeEngine(ScriptedEngine):
    """Answers with a body that is no stream."""

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> ScriptedAnswer:
        answer = await super().serve(route, headers, body)
        answer.headers = {"content-type": "application/json"}
        return answer


async def asker(where: World, **engines: ScriptedEngine) -> WorldNode:
    for name, engine in engines.items():
        await where.add(name, engine=engine)
    node = await where.add("asker", peers=tuple(engines))
    for name in engines:
        await node.until_reachable(set(engines), model_of=name)
    return node


async def both_ways(node: WorldNode, bad: ScriptedEngine, *, stream: bool) -> set[bytes]:
    """Bodies of as many requests as it takes until the bad server was asked."""
    bodies = set()
    while not bad.served:
        answer, body = await node.ask_whole(MODEL, stream=stream)
        assert answer.status == 200
        bodies.add(body)
        await trio.sleep(2.0)
    return bodies


@SPOILT
@pytest.mark.parametrize("before", [b"", ROLE, b": thinking\n\n"], ids=["at once", "after its role", "after a comment"])
async def test_before_a_token_another_server_is_asked(
    tmp_path: Path, autojump_clock: MockClock, spoilt: bytes, before: bytes
) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, [before, 0.1, spoilt, LAST] if before else [spoilt, LAST])
        node = await asker(where, bad=bad, good=ScriptedEngine(MODEL))
        assert await both_ways(node, bad, stream=True) == {EVENT + LAST}


@pytest.mark.parametrize("body", [b'{"choices":[{"mess', b'{"a":"\xff"}'])
async def test_a_whole_answer_is_read_before_its_head_goes_out(
    tmp_path: Path, autojump_clock: MockClock, body: bytes
) -> None:
    async with world(tmp_path) as where:
        bad = WholeEngine(MODEL, [body[:4], 0.5, body[4:]])
        node = await asker(where, bad=bad, good=WholeEngine(MODEL, [b'{"good":', 0.1, b"1}"]))
        assert await both_ways(node, bad, stream=False) == {b'{"good":1}'}


@SPOILT
async def test_after_a_token_the_stream_ends_with_an_error_and_none_of_it(
    tmp_path: Path, autojump_clock: MockClock, spoilt: bytes
) -> None:
    async with world(tmp_path) as where:
        node = await asker(where, bad=ScriptedEngine(MODEL, [EVENT, 0.1, EVENT + spoilt[:60], 0.1, spoilt[60:], LAST]))
        server = where.nodes["bad"]
        for _ in range(5):
            answer, said = await node.ask(MODEL), b""
            with pytest.raises(EngineFailed, match=r"^bad: the engine said what is no"):
                async for chunk in answer:
                    said += chunk
            assert (EVENT + EVENT).startswith(said)
            await answer.aclose()
        assert node.router.known.breakers.state(server.id, MODEL, trio.current_time()) == "open"
        assert [entry.outcome for entry in node.dispatcher.journal.recent(5)] == ["engine_failed"] * 5


@SPOILT
async def test_a_server_that_passes_it_on_is_caught_by_who_asked(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, spoilt: bytes
) -> None:
    monkeypatch.setattr("meshnode.dispatch.begun.judge_of", lambda *_: Unjudged())
    async with world(tmp_path) as where:
        engine = ScriptedEngine(MODEL, [EVENT, 0.1, spoilt, LAST])
        node = await asker(where, bad=engine)
        answer = await node.ask(MODEL)
        assert await anext(answer) == EVENT
        with pytest.raises(PeerFailed, match="bad said what is no"):
            await anext(answer)
        await answer.aclose()
        with pytest.raises(PeerFailed):
            engine.script = [spoilt]
            await node.ask(MODEL)


async def test_a_stream_of_nothing_but_its_role_is_no_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        bad = ScriptedEngine(MODEL, [ROLE, 1.0, EngineFailed("died")])
        node = await asker(where, bad=bad, good=ScriptedEngine(MODEL))
        assert await both_ways(node, bad, stream=True) == {EVENT + LAST}
