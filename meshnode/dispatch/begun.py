"""An engine that was asked, until it has begun to say something that clients can read; and its judge from then on.

What says nothing yet (a role, half a body) commits nobody, so that another server may still be asked. Not for slots
(local.py). Counterparts: dialects.sound, which judges, and meshnode.engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio

from meshnode.dialects import judge_of
from meshnode.errors import DecodeError, EngineFailed
from meshnode.model.advert import ModelOffer
from meshnode.model.answer import Answer
from meshnode.model.job import Job


class ServingEngine(Protocol):
    """What this room needs of an engine (meshnode.engine has them)."""

    @property
    def name(self) -> str: ...

    @property
    def slots(self) -> int: ...

    @property
    def offers(self) -> tuple[ModelOffer, ...]: ...

    @property
    def resident(self) -> frozenset[str] | None: ...

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> Answer: ...


class Health(Protocol):
    """Whoever is told how an engine does (gate.Gate)."""

    def failed(self) -> None: ...

    def spoke(self) -> None: ...

    def succeeded(self, asked_at: float) -> None: ...


class Begun:
    """An engine's answer under its judge."""

    __slots__ = ("_asked_at", "_health", "answer", "first", "judge", "over")

    def __init__(self, answer: Answer, health: Health, asked_at: float) -> None:
        self._health = health
        self._asked_at = asked_at
        self.answer = answer
        self.judge = judge_of(answer.status, answer.headers)
        self.first = b""
        self.over = False

    async def more(self) -> bytes:
        """What may be passed on now; empty at its proper end. Raises EngineFailed."""
        try:
            while not self.over:
                try:
                    data = self.judge.feed(await self.answer.__anext__())
                except StopAsyncIteration:
                    data = self._end()
                if data:
                    return data
        except DecodeError as error:
            self._health.failed()
            raise EngineFailed(f"the engine said {error}") from error
        except EngineFailed:
            self._health.failed()
            raise
        return b""

    def _end(self) -> bytes:
        self.over = True
        rest = self.judge.rest()
        if not self.judge.finished:
            raise EngineFailed("the engine ended the stream before it said it was done")
        self._health.succeeded(self._asked_at)
        return rest


async def begin(engine: ServingEngine, job: Job, health: Health) -> Begun:
    """Ask the engine and wait until it says something: a token, or the whole of what is no stream."""
    asked_at = trio.current_time()
    try:
        begun = Begun(await engine.serve(job.route, {}, job.body), health, asked_at)
    except EngineFailed:
        health.failed()
        raise
    try:
        begun.first = await begun.more()
    except BaseException:
        with trio.CancelScope(shield=True):
            await begun.answer.aclose()
        raise
    if not begun.first and begun.answer.status == 200:
        raise EngineFailed(f"{engine.name} answered with an empty body")
    if begun.answer.status == 200:
        health.spoke()
    return begun
