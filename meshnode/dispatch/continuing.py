"""An answer that another server goes on with when the one that wrote it is lost, for clients that asked for that.

Only a server with the same weights, as its advert's digest says, which takes a completion's prompt as it is; a comment
in the stream names both. Where there is none, the error stays what it was. Counterpart: dialects.continuation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import trio

from meshnode.dialects.continuation import Continuation, continuable
from meshnode.dispatch import wire
from meshnode.dispatch.asking import Tried, ask
from meshnode.dispatch.pursuit_events import Role, Try
from meshnode.errors import RequestError
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.config.dispatch import DispatchSection
    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.dispatch.journal import Entry
    from meshnode.model.ids import NodeId
    from meshnode.model.job import Job
    from meshnode.routing import Attempt
    from meshnode.routing.budget import RetryBudget

logger = log.get("dispatch")

TEMPLATED = "ollama"
"""A server of this dialect puts a completion's prompt into the model's template, so that it would begin anew."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What continuing needs of the dispatcher."""

    around: Surroundings
    section: DispatchSection
    retries: RetryBudget
    rng: Random


def continuing(origin: Origin, job: Job, tried: Tried, entry: Entry) -> Tried:
    """`tried` with an answer that goes on elsewhere, where that was asked for and can be."""
    if not job.wishes.continues or tried.answer.status != 200:
        return tried
    offer = origin.around.view().offer(tried.path[-1], tried.order.attempt.model)
    talk = continuable(job.route, job.body)
    if talk is None or offer is None or not offer.digest or TEMPLATED in offer.dialects:
        return tried
    return tried._replace(answer=Continuing(origin, job, tried, talk, (offer.digest, entry)), first=b"")


class Continuing:
    """Whoever of the servers answers now: an Answer."""

    def __init__(self, origin: Origin, job: Job, tried: Tried, talk: Continuation, kept: tuple[bytes, Entry]) -> None:
        self.status = tried.answer.status
        self.headers: Mapping[str, str] = tried.answer.headers
        self._origin = origin
        self._job = job
        self._now = tried
        self._talk = talk
        self._digest, self._entry = kept
        self._first = tried.first
        self._number = tried.order.number
        self._servers = [tried.path[-1]]
        self._failed: set[NodeId] = set()
        self._closed = False
        self._asking = trio.CancelScope()

    @property
    def trailers(self) -> Mapping[str, str]:
        if len(self._servers) == 1:
            return self._now.answer.trailers
        return {**self._now.answer.trailers, "x-meshnode-failover": " > ".join(map(self._name, self._servers))}

    def __aiter__(self) -> Continuing:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                data, self._first = self._first, b""
                ready = self._talk.feed(data or await self._now.answer.__anext__())
            except StopAsyncIteration:
                if rest := self._talk.rest():
                    return rest
                self._origin.around.router.finished(self._now.flight, self._talk.pieces, trio.current_time())
                raise
            except RequestError as error:
                self._origin.around.router.failed(self._now.flight, trio.current_time())
                if self._closed or not error.elsewhere or not await self._go_on():
                    raise
                return self._mark()
            if ready:
                return ready

    async def aclose(self) -> None:
        self._closed = True
        self._asking.cancel()
        self._origin.around.router.cancelled(self._now.flight, trio.current_time())
        await self._now.answer.aclose()

    def _mark(self) -> bytes:
        before, after = map(self._name, self._servers[-2:])
        return f": meshnode-failover from {before} to {after}; usage counts the rest only\n\n".encode()

    async def _go_on(self) -> bool:
        """Have another server write the rest. False where none can."""
        lost, body = self._now, self._talk.body()
        with trio.CancelScope(shield=True):
            await lost.answer.aclose()
        if body is None:
            return False
        job = dataclasses.replace(self._job, body=body)
        while (attempt := self._another(job)) is not None:
            tried = await self._ask(job, attempt)
            if tried is not None:
                self._talk.again()
                self._now, self._first = tried, tried.first
                return True
        return False

    def _another(self, job: Job) -> Attempt | None:
        """The next server with the same weights, as far as attempts and the budget for retries go."""
        around, now = self._origin.around, trio.current_time()
        if self._closed or self._number > self._origin.section.retries:
            return None
        plan = around.router.consider(job, around.view(), around.local.state(), self._origin.rng, now)
        for attempt in plan.attempts:
            offer = around.view().offer(attempt.node, attempt.model)
            same = offer is not None and offer.digest == self._digest and TEMPLATED not in offer.dialects
            if same and attempt.node not in (*self._servers, *self._failed):
                return attempt if self._origin.retries.spend(now) else None
        return None

    async def _ask(self, job: Job, attempt: Attempt) -> Tried | None:
        around, now = self._origin.around, trio.current_time()
        self._number += 1
        order = Try(self._number, attempt, Role.RETRY)
        flight = around.router.started(attempt, job.facts.prompt_tokens, now)
        self._entry.note(now, "asked", self._number, attempt.node, "continue")
        around.metrics.attempt()
        until = min(job.deadline, now + self._origin.section.first_token_s)
        tried = None
        try:
            with trio.CancelScope(deadline=until) as self._asking:
                tried = await ask(around, job, wire.name_of(job), order, flight)
        except RequestError as error:
            around.router.failed(flight, trio.current_time())
            self._entry.note(trio.current_time(), "failed", self._number, attempt.node, error.code)
        except BaseException:
            around.router.cancelled(flight, trio.current_time())
            raise
        if tried is None or self._closed or tried.answer.status != 200 or tried.path[-1] != attempt.node:
            # Not what was asked for, or no longer wanted: late, refused in words of the engine's, or of a server that a
            # relay chose.
            around.router.cancelled(flight, trio.current_time())
            self._failed.add(attempt.node)
            if tried is not None:
                await tried.answer.aclose()
            return None
        self._servers.append(attempt.node)
        around.router.first_token(flight, trio.current_time())
        self._entry.note(trio.current_time(), "continued", self._number, attempt.node)
        logger.info("another server goes on", job=job.id, node=self._name(attempt.node))
        return tried

    def _name(self, node: NodeId) -> str:
        return "".join(c if 32 <= ord(c) < 127 else "?" for c in self._origin.around.view().name(node))
