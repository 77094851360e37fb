"""Requests that share an answer: each reads all of it, leaving and slowness are nobody else's business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import Conflict, DeadlineExceeded, EngineFailed, FellBehind, RequestError
from meshnode.model.answer import Answer
from meshnode.model.job import Label, Wishes
from tests.kit.world import EVENT, LAST, Script, ScriptedEngine, WorldNode, world

ZERO = b'"temperature":0,'
KEY = Wishes(idempotency_key="k")


@asynccontextmanager
async def one(folder: Path, script: Script, **dispatch: Any) -> AsyncIterator[tuple[WorldNode, ScriptedEngine]]:
    async with world(folder) as where:
        engine = ScriptedEngine("m", script)
        yield await where.add("node", engine=engine, settings={"dispatch": dispatch}), engine


async def ask(node: WorldNode, **options: Any) -> Answer:
    return await node.sharing.dispatch(node.job("m", **options))


async def whole(node: WorldNode, bodies: list[bytes], **options: Any) -> None:
    answer = await ask(node, **options)
    bodies.append(b"".join([data async for data in answer]))
    await answer.aclose()


async def test_the_same_question_at_once_is_asked_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [1.0, EVENT, 1.0, EVENT, LAST]) as (node, engine):
        bodies: list[bytes] = []
        first = await ask(node, more=ZERO)
        assert "x-meshnode-cache" not in first.headers
        await first.__anext__()
        late = await ask(node, more=ZERO)
        assert late.headers["x-meshnode-cache"] == "coalesced"
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: whole(node, bodies, more=ZERO))
            bodies.append(b"".join([data async for data in late]))
        assert bodies == [EVENT + EVENT + LAST] * 4
        assert engine.served == 1
        assert b"".join([data async for data in first]) == EVENT + LAST
        await trio.testing.wait_all_tasks_blocked()
        assert node.sharing._pool.held_bytes == 0
        await whole(node, bodies, more=ZERO)
        assert engine.served == 2
        assert node.dispatcher.journal.recent(2)[1].cache == "coalesced"


@pytest.mark.parametrize(
    "other",
    [
        {"more": b""},
        {"more": ZERO, "text": "other"},
        {"more": ZERO, "stream": False},
        {"more": ZERO, "label": Label.PUBLIC},
        {"more": ZERO, "wishes": Wishes(tenant="somebody else")},
        {"more": ZERO, "timeout_s": 500.0},
    ],
    ids=str,
)
async def test_another_question_label_credential_or_patience_has_its_own(
    tmp_path: Path, autojump_clock: MockClock, other: dict[str, Any]
) -> None:
    async with one(tmp_path, [1.0, EVENT, LAST]) as (node, engine):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: whole(node, [], more=ZERO))
            await engine.until_busy()
            nursery.start_soon(lambda: whole(node, [], **other))
        assert engine.served == 2


async def test_what_is_sensitive_is_not_shared(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [1.0, EVENT, LAST]) as (node, engine):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: whole(node, [], more=ZERO, label=Label.SENSITIVE))
        assert engine.served == 2


async def test_what_an_alias_makes_sensitive_is_not_shared(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path) as where:
        engine = ScriptedEngine("m", [1.0, EVENT, LAST])
        aliases = {"routing": {"aliases": {"mine": {"tiers": [["m"]], "label": "sensitive"}}}}
        node = await where.add("node", engine=engine, settings=aliases)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                job = node.job("mine", more=ZERO)
                nursery.start_soon(node.sharing.dispatch, job)
            with trio.fail_after(5.0):
                await engine.until(running=2)
        assert engine.served == 2


async def test_one_who_leaves_cancels_nobody_and_the_last_one_does(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [EVENT, 1000.0, LAST]) as (node, engine):
        answers = [await ask(node, more=ZERO) for _ in range(2)]
        for answer in answers:
            assert await answer.__anext__() == EVENT
        await answers[0].aclose()
        await answers[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert engine.running == 1
        await answers[1].aclose()
        with trio.fail_after(1.0):
            await engine.until(running=0)
        await trio.testing.wait_all_tasks_blocked()
        assert (engine.cut, node.dispatcher.running, node.sharing._pool.held_bytes) == (1, 0, 0)


async def test_the_first_may_leave_before_the_answer_begins(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [5.0, EVENT, LAST]) as (node, engine):
        bodies: list[bytes] = []
        async with trio.open_nursery() as nursery:
            first = trio.CancelScope(deadline=trio.current_time() + 1.0)

            async def leave() -> None:
                with first:
                    await whole(node, [], more=ZERO)

            nursery.start_soon(leave)
            await engine.until_busy()
            nursery.start_soon(lambda: whole(node, bodies, more=ZERO))
        assert (bodies, engine.served, engine.cut) == ([EVENT + LAST], 1, 0)


async def test_an_error_is_everybodys_and_a_deadline_ones_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [EVENT, 5.0, EngineFailed("gone")]) as (node, engine):
        ends: list[type[RequestError]] = []

        async def fail(timeout_s: float) -> None:
            try:
                await whole(node, [], more=ZERO, timeout_s=timeout_s)
            except RequestError as error:
                ends.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, 60.0)
            await engine.until_busy()
            nursery.start_soon(fail, 60.0)
            nursery.start_soon(fail, 2.0)
        assert sorted(ends, key=str) == [DeadlineExceeded, EngineFailed, EngineFailed]
        assert engine.served == 1


async def test_a_slow_reader_holds_nobody_and_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    script: Script = [EVENT] * 50 + [LAST]
    async with one(tmp_path, script, shared_stream_bytes=10 * len(EVENT)) as (node, engine):
        slow = await ask(node, more=ZERO)
        assert await slow.__anext__() == EVENT
        quick: list[bytes] = []
        await whole(node, quick, more=ZERO)
        assert quick == [EVENT * 50 + LAST]
        with pytest.raises(FellBehind):
            await slow.__anext__()
        await slow.aclose()
        assert engine.served == 1


async def test_a_key_is_answered_once_and_then_replayed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with one(tmp_path, [EVENT, LAST]) as (node, engine):
        bodies: list[bytes] = []
        await whole(node, bodies, wishes=KEY)
        again = await ask(node, wishes=KEY)
        assert again.headers["x-meshnode-cache"] == "replayed"
        bodies.append(b"".join([data async for data in again]))
        assert bodies == [EVENT + LAST] * 2
        assert engine.served == 1
        with pytest.raises(Conflict):
            await ask(node, wishes=KEY, text="other")
        await whole(node, bodies, wishes=Wishes(idempotency_key="k", tenant="other"), text="other")
        await trio.sleep(601)
        await whole(node, bodies, wishes=KEY)
        assert engine.served == 3


async def test_a_key_that_runs_is_joined_and_one_that_failed_or_was_left_is_free(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with one(tmp_path, [1.0, EVENT, LAST]) as (node, engine):
        bodies: list[bytes] = []
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: whole(node, bodies, wishes=KEY))
        assert (bodies, engine.served) == ([EVENT + LAST] * 2, 1)
        other = Wishes(idempotency_key="other")
        with trio.move_on_after(0.5):
            await whole(node, [], wishes=other)
        await whole(node, bodies, wishes=other)
        assert engine.served == 3


async def test_the_answer_to_a_sensitive_key_is_not_kept_nor_given_twice(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with one(tmp_path, [EVENT, LAST]) as (node, engine):
        await whole(node, [], wishes=KEY, label=Label.SENSITIVE)
        await trio.testing.wait_all_tasks_blocked()
        assert node.sharing._pool.held_bytes == 0
        with pytest.raises(Conflict):
            await ask(node, wishes=KEY, label=Label.SENSITIVE)
        assert engine.served == 1
