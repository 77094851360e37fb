"""Sensitive answers leave in batches, whole and in order, and end as they ended."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch import batch
from meshnode.errors import EngineFailed, LinkClosed
from tests.kit.world import ScriptedAnswer, ScriptedEngine


class Sent:
    """What was sent, and when."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.data: list[bytes] = []

    async def __call__(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.at.append(trio.current_time())
        self.data.append(data)


def answer(*script: bytes | float | Exception) -> ScriptedAnswer:
    engine = ScriptedEngine("m")
    engine.running = 1
    return ScriptedAnswer(engine, list(script))


async def test_tokens_of_a_quick_engine_leave_together(autojump_clock: MockClock) -> None:
    sent = Sent()
    tokens = [b"%d" % number for number in range(100)]
    script = [part for token in tokens for part in (token, 0.004)]
    await batch.copy(answer(*script), sent)
    assert b"".join(sent.data) == b"".join(tokens)
    assert len(sent.data) <= 100 * 0.004 / batch.EVERY_S + 2
    gaps = [later - earlier for earlier, later in zip(sent.at, sent.at[1:], strict=False)]
    assert min(gaps) >= batch.EVERY_S - 1e-9


async def test_tokens_of_a_slow_engine_wait_no_longer_than_one_batch(autojump_clock: MockClock) -> None:
    sent = Sent()
    began = trio.current_time()
    await batch.copy(answer(1.0, b"a", 1.0, b"b", 1.0), sent)
    assert sent.data == [b"a", b"b"]
    assert [at - began for at in sent.at] == pytest.approx([1.0 + batch.EVERY_S, 2.0 + batch.EVERY_S])


async def test_an_error_comes_after_what_came_before_it(autojump_clock: MockClock) -> None:
    sent = Sent()
    with pytest.raises(EngineFailed, match="died"):
        await batch.copy(answer(b"a", b"b", EngineFailed("died")), sent)
    assert b"".join(sent.data) == b"ab"


async def test_who_left_ends_the_reading(autojump_clock: MockClock) -> None:
    async def send(data: bytes) -> None:
        raise LinkClosed("gone")

    with pytest.raises(LinkClosed, match="gone"):
        await batch.copy(answer(b"a", 1e6, b"b"), send)


async def test_an_engine_waits_while_a_batch_is_not_taken(autojump_clock: MockClock) -> None:
    taken = trio.Event()
    chunk = b"x" * batch.MOST_BYTES
    given = answer(*[chunk] * 10)

    async def send(data: bytes) -> None:
        await taken.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(batch.copy, given, send)
        await trio.sleep(10)
        assert len(given._script) >= 7
        taken.set()
    assert not given._script
