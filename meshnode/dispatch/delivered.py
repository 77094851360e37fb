"""An answer on its way to this node's client: what it was like is told to routing exactly once, however it ends.

Not for errors before the first byte (dispatcher.py) nor for telling the client (front). Silence is the watch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import NamedTuple, Protocol

import trio

from meshnode.dialects.status import DONE
from meshnode.dispatch.watch import Watch
from meshnode.errors import DeadlineExceeded, RequestError, StreamSilent
from meshnode.model.answer import Answer

TAIL_S = 0.5
"""What still follows `[DONE]` is the end itself, which is on its way."""


class Begun(Protocol):
    """An answer, and the first bytes of its body, which have been read."""

    @property
    def answer(self) -> Answer: ...

    @property
    def first(self) -> bytes: ...


Ended = Callable[["Delivered", RequestError | None, bool], None]
"""Told at the end: the answer, the error that cut it or None, and whether it came to its own end."""


class Patience(NamedTuple):
    """How long an answer may be silent, and when on trio's clock it must be whole."""

    silence_s: float
    deadline: float = inf


class Delivered:
    """Wraps the answer of whoever serves, whose `first` bytes were read. `chunks` counts what has passed."""

    def __init__(
        self, tried: Begun, headers: Mapping[str, str], patience: Patience, watch: Watch, ended: Ended
    ) -> None:
        self.status = tried.answer.status
        self.headers = headers
        self.chunks = 0
        self._inner = tried.answer
        self._first = tried.first
        self._last = b""
        self._patience = patience
        self._watch = watch
        self._ended: Ended | None = ended
        self._moved = trio.current_time()
        self._given_up: DeadlineExceeded | None = None
        watch.add(self)

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._inner.trailers

    @property
    def said_all(self) -> bool:
        """Whether its last words have passed: whoever leaves then has had all of it, however long the end itself is on
        its way."""
        return self._last.endswith(DONE)

    @property
    def late(self) -> bool:
        """Whether nothing has come for longer than a stream may be silent, or the request's own time is over."""
        now = trio.current_time()
        return now - self._moved > self._patience.silence_s or now > self._patience.deadline

    def __aiter__(self) -> Delivered:
        return self

    async def __anext__(self) -> bytes:
        try:
            data, self._first = self._first, b""
            if not data:
                data = await self._inner.__anext__()
        except (StopAsyncIteration, RequestError) as end:
            # What was closed from here may end as if it were whole.
            error = self._given_up or (end if isinstance(end, RequestError) else None)
            self._end(error, whole=error is None)
            if error is None or error is end:
                raise
            raise error from end
        self._moved = trio.current_time()
        self.chunks += 1
        self._last = data
        return data

    async def aclose(self) -> None:
        try:
            if self._ended is not None and self.said_all:
                await self._read_tail()
        finally:
            self._end(None, whole=False)
            await self._inner.aclose()

    async def _read_tail(self) -> None:
        """Clients leave as soon as they have read `[DONE]`, most before its end came: that answer was whole, and must
        not cost a reset at every hop."""
        with trio.move_on_after(TAIL_S), suppress(StopAsyncIteration, RequestError):
            while True:
                await self.__anext__()

    async def give_up(self) -> None:
        """The watch found it late: close what is behind it; whoever reads it learns why."""
        if trio.current_time() > self._patience.deadline:
            self._given_up = DeadlineExceeded("the request's time ran out before the answer was whole")
        else:
            self._given_up = StreamSilent(f"the stream was silent for {self._patience.silence_s:.0f} s")
        await self._inner.aclose()

    def _end(self, error: RequestError | None, *, whole: bool) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            self._watch.discard(self)
            ended(self, error, whole)
