"""A completion whose server is lost midway goes on at another with the same weights, for those who ask for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.dialects import COMPLETION, read_facts
from meshnode.dispatch.delivered import Delivered
from meshnode.dispatch.journal import report
from meshnode.errors import EngineFailed, RequestError, StreamSilent
from meshnode.model.advert import ModelOffer
from meshnode.model.job import Wishes
from tests.dialects.test_continuation import event
from tests.kit.world import Script, ScriptedAnswer, ScriptedEngine, World, WorldNode, world

DIGEST = b"d" * 32
END = event("", "stop") + b"data: [DONE]\n\n"
FIRST, REST = [event("Once"), event(" upon")], [event(" a"), event(" time"), END]


@dataclasses.dataclass
class Weights(ScriptedEngine):
    """Remembers what it was asked for. `digest` is of its weights."""

    digest: bytes = DIGEST
    dialects: tuple[str, ...] = ("openai",)
    bodies: list[dict[str, object]] = dataclasses.field(default_factory=list)

    @property
    def offers(self) -> tuple[ModelOffer, ...]:
        (offer,) = super().offers
        return (msgspec.structs.replace(offer, digest=self.digest, features=("completion",), dialects=self.dialects),)

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> ScriptedAnswer:
        self.bodies.append(json.loads(body))
        return await super().serve(route, headers, body)


def broken() -> Script:
    return [*FIRST, event(" lost")[:-9], EngineFailed("gone")]


async def two(where: World, first: Weights, second: Weights) -> WorldNode:
    await where.add("other", engine=second)
    node = await where.add("node", peers=("other",), engine=first)
    await node.until_reachable({"other"}, model_of="other")
    return node


async def ask(node: WorldNode, wishes: Wishes = Wishes(continues=True), **more: object) -> Delivered:  # noqa: B008
    body = json.dumps({"model": "m", "prompt": "P: ", "stream": True, "max_tokens": 20, **more}).encode()
    job = dataclasses.replace(node.job("m", wishes=wishes), route=COMPLETION, body=body)
    return await node.dispatcher.dispatch(dataclasses.replace(job, facts=read_facts(COMPLETION, body, {})))


async def test_another_server_goes_on_and_the_stream_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        first, second = Weights("m", broken()), Weights("m", list(REST))
        node = await two(where, first, second)
        answer = await ask(node)
        body = b"".join([data async for data in answer])
        mark = b": meshnode-failover from node to other; usage counts the rest only\n\n"
        assert body == b"".join(FIRST) + mark + b"".join(REST)
        assert second.bodies[0]["prompt"] == "P: Once upon"
        assert second.bodies[0]["max_tokens"] == 18
        assert answer.trailers["x-meshnode-failover"] == "node > other"
        records = node.router.known.measurements.of("m")
        assert records[node.id].tries > 1.0
        assert [record.outstanding for record in records.values()] == [0, 0]
        told = report(node.dispatcher.journal.recent(1)[0], node.member.view(), trio.current_time())
        assert [(one["name"], one["why"], one["outcome"]) for one in told["attempts"]] == [
            ("node", "first", "answered"),
            ("other", "continue", "continued"),
        ]
        assert (told["outcome"], node.dispatcher.running) == ("ok", 0)
        await trio.testing.wait_all_tasks_blocked()
        assert (first.running, second.running) == (0, 0)


@pytest.mark.parametrize(
    ("change", "wishes", "more"),
    [
        ({"digest": b"e" * 32}, Wishes(continues=True), {}),
        ({"digest": b""}, Wishes(continues=True), {}),
        ({"dialects": ("openai", "ollama")}, Wishes(continues=True), {}),
        ({"refuse": EngineFailed("broken too")}, Wishes(continues=True), {}),
        ({}, Wishes(), {}),
        ({}, Wishes(continues=True), {"logprobs": 2}),
    ],
    ids=["other weights", "unknown weights", "templated", "broken", "not asked for", "logprobs"],
)
async def test_otherwise_the_error_stays_what_it_was(
    tmp_path: Path, autojump_clock: MockClock, change: dict[str, object], wishes: Wishes, more: dict[str, object]
) -> None:
    async with world(tmp_path) as where:
        first = Weights("m", broken())
        second = dataclasses.replace(Weights("m", list(REST)), **change)
        node = await two(where, first, second)
        answer = await ask(node, wishes, **more)
        came = b""
        with pytest.raises(RequestError, match="gone"):
            while True:
                came += await answer.__anext__()
        assert came.startswith(b"".join(FIRST))
        assert b"meshnode-failover" not in came
        assert second.bodies == [] or "refuse" in change
        assert node.dispatcher.running == 0
        assert all(record.outstanding == 0 for record in node.router.known.measurements.of("m").values())


async def test_a_client_that_leaves_while_it_goes_on_leaves_nothing_running(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with world(tmp_path) as where:
        first, second = Weights("m", broken()), Weights("m", [*REST[:1], 1000.0, END])
        node = await two(where, first, second)
        answer = await ask(node)
        for _ in range(4):
            await answer.__anext__()
        await answer.aclose()
        with trio.fail_after(1.0):
            await second.until(running=0)
        assert node.dispatcher.running == 0


async def test_who_is_silent_while_another_is_asked_is_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        second = Weights("m", [20.0, *REST])
        node = await two(where, Weights("m", broken()), second)
        answer = await ask(node, Wishes(continues=True, silence_s=5.0))
        began = trio.current_time()
        with pytest.raises(StreamSilent):
            async for _ in answer:
                pass
        assert trio.current_time() - began < 10.0
        await answer.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (second.running, second.cut, node.dispatcher.running) == (0, 1, 0)
        assert all(record.outstanding == 0 for record in node.router.known.measurements.of("m").values())
