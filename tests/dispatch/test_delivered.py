"""How an answer ended is told once: whole, cut, or left by its client, who may leave before the very end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from meshnode.dispatch.delivered import Delivered, Patience
from meshnode.dispatch.watch import Watch
from meshnode.errors import DeadlineExceeded, PeerFailed, RequestError
from tests.kit.world import EVENT, LAST


class Inner:
    """Gives pieces; a number is a wait."""

    def __init__(self, *script: bytes | float | RequestError) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.closed = trio.Event()
        self.ended = False
        self._script = list(script)

    def __aiter__(self) -> Inner:
        return self

    async def __anext__(self) -> bytes:
        while self._script:
            match self._script.pop(0):
                case bytes() as data:
                    return data
                case RequestError() as error:
                    raise error
                case seconds:
                    with trio.move_on_after(seconds):
                        await self.closed.wait()
                        raise PeerFailed("closed under its reader")
        self.ended = True
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


class Told:
    """What the end was told as."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, bool]] = []
        self.watch = Watch()

    def of(self, inner: Inner, silence_s: float = 300.0) -> Delivered:
        def ended(_: Delivered, error: RequestError | None, whole: bool) -> None:
            self.ends.append((error.code if error is not None else "", whole))

        return Delivered(SimpleNamespace(answer=inner, first=b""), {}, Patience(silence_s), self.watch, ended)


async def test_read_to_the_end_it_was_whole() -> None:
    told = Told()
    answer = told.of(Inner(EVENT, LAST))
    assert [data async for data in answer] == [EVENT, LAST]
    await answer.aclose()
    assert told.ends == [("", True)]
    assert len(told.watch) == 0


async def test_a_client_that_leaves_after_done_had_it_whole(autojump_clock: MockClock) -> None:
    told = Told()
    inner = Inner(EVENT, LAST, 0.1)
    answer = told.of(inner)
    for _ in range(2):
        await answer.__anext__()
    await answer.aclose()
    assert told.ends == [("", True)]
    assert inner.ended
    assert inner.closed.is_set()


async def test_an_end_that_does_not_come_is_not_waited_for(autojump_clock: MockClock) -> None:
    told = Told()
    answer = told.of(Inner(LAST, 1000.0))
    await answer.__anext__()
    began = trio.current_time()
    await answer.aclose()
    assert trio.current_time() - began < 1
    assert told.ends == [("", False)]


async def test_a_client_that_leaves_before_done_closes_at_once(autojump_clock: MockClock) -> None:
    told = Told()
    inner = Inner(EVENT, 1000.0)
    answer = told.of(inner)
    await answer.__anext__()
    began = trio.current_time()
    await answer.aclose()
    assert trio.current_time() == began
    assert told.ends == [("", False)]


async def test_a_client_that_is_being_cancelled_waits_for_nothing(autojump_clock: MockClock) -> None:
    told = Told()
    inner = Inner(LAST, 1000.0)
    answer = told.of(inner)
    await answer.__anext__()
    with trio.CancelScope() as scope:
        scope.cancel()
        await answer.aclose()
    assert inner.closed.is_set()
    assert told.ends == [("", False)]


async def test_an_error_is_told_once() -> None:
    told = Told()
    answer = told.of(Inner(EVENT, PeerFailed("cut")))
    await answer.__anext__()
    with pytest.raises(PeerFailed):
        await answer.__anext__()
    await answer.aclose()
    assert told.ends == [("peer_failed", False)]


async def test_silence_is_ended_with_its_own_error(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    told = Told()
    await nursery.start(told.watch.run)
    answer = told.of(Inner(EVENT, 1000.0), silence_s=5.0)
    await answer.__anext__()
    with pytest.raises(DeadlineExceeded) as raised:
        await answer.__anext__()
    assert raised.value.phase == "silence"
    assert told.ends == [("stream_silent", False)]


async def test_an_answer_given_up_between_two_reads_was_not_whole(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    told = Told()
    await nursery.start(told.watch.run)
    answer = told.of(Inner(EVENT), silence_s=5.0)
    await answer.__anext__()
    await trio.sleep(10.0)
    with pytest.raises(DeadlineExceeded):
        await answer.__anext__()
    assert told.ends == [("stream_silent", False)]
