"""The origin's side of a request: plan, try, and hand back an answer whose first bytes are here.

Before the first byte another server may be tried; after it an error is the answer's own (front tells the client
in-stream). Every decision is routing's; this performs it and reports what was measured. Counterpart: inbound.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshnode.config.dispatch import DispatchSection
from meshnode.dialects.facts import rewrite_model
from meshnode.dispatch import remote
from meshnode.dispatch.delivered import Delivered
from meshnode.dispatch.local import Local
from meshnode.dispatch.watch import Watch
from meshnode.dispatch.wire import envelope_of
from meshnode.errors import DeadlineExceeded, NoPeerReachable, PeerFailed, RequestError
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.routing.explain import reason
from meshnode.routing.plan import Attempt, Planner

if TYPE_CHECKING:
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job
    from meshnode.model.view import View
    from meshnode.net.link import Link
    from meshnode.observe.metrics import Metrics

logger = log.get("dispatch")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What dispatch needs of the node around it, handed in by node.py.

    `link` gives the live link to a neighbour; `next_hop` the link towards a target past a path, within hops left.
    """

    me: NodeId
    relays: bool
    view: Callable[[], View]
    link: Callable[[NodeId], Link | None]
    next_hop: Callable[[NodeId, tuple[NodeId, ...], int], Link | None]
    local: Local


class Dispatcher:
    """`await dispatch(job)` returns an Answer or raises a RequestError; leaving it cancels everything behind it."""

    def __init__(
        self, around: Surroundings, section: DispatchSection, planner: Planner, watch: Watch, metrics: Metrics
    ) -> None:
        self._around = around
        self._section = section
        self._planner = planner
        self._watch = watch
        self._metrics = metrics
        self.running = 0
        self.answered = 0
        self.failed = 0

    async def dispatch(self, job: Job) -> Delivered:
        """Answer one request of this node's own clients. Raises RequestError when nobody could."""
        self.running += 1
        began = trio.current_time()
        try:
            plan = self._planner.plan(job, self._around.view(), began)
            answer, attempt, number = await self._first_that_answers(job, plan.attempts, began)
        except BaseException as error:
            self.running -= 1
            if isinstance(error, RequestError):
                self.failed += 1
                self._metrics.ended("", "", error.code)
            raise
        return Delivered(answer, self._headers(answer, attempt, number, plan.attempts), self._section.silence_s, self._watch,
                         lambda error: self._ended(attempt, error))

    async def _first_that_answers(
        self, job: Job, attempts: tuple[Attempt, ...], began: float
    ) -> tuple[Answer, Attempt, int]:
        phase_s = self._section.first_token_s if job.facts.stream else self._section.whole_s
        until = min(job.deadline, began + phase_s)
        last: RequestError | None = None
        for number, attempt in enumerate(attempts, 1):
            self._metrics.attempt()
            started = self._planner.started(attempt, trio.current_time())
            try:
                with trio.fail_at(until):
                    answer = await self._try(dataclasses.replace(job, attempt=number), attempt)
            except trio.TooSlowError:
                self._planner.failed(started, trio.current_time(), broken=True)
                raise self._too_slow(job, attempt, trio.current_time() - began) from None
            except RequestError as error:
                self._planner.failed(started, trio.current_time(), broken=error.elsewhere, full=error.status == 429)
                if not error.elsewhere:
                    raise
                last = error
                logger.info("a server did not answer", job=job.id, node=self._name(attempt), attempt=number,
                            code=error.code, reason=error.message)  # fmt: skip
                continue
            except BaseException:
                self._planner.left(started)
                raise
            self._planner.first_byte(started, job.facts.prompt_tokens, trio.current_time())
            self._metrics.first_token(attempt.model, self._name(attempt), trio.current_time() - began)
            self._started = started
            return answer, attempt, number
        if last is None:
            raise NoPeerReachable(f"nobody was left to ask for {job.facts.model!r}")
        raise last

    async def _try(self, job: Job, attempt: Attempt) -> Answer:
        body = rewrite_model(job.body, attempt.model) if attempt.model != job.facts.model else job.body
        if attempt.node == self._around.me:
            return await self._around.local.serve(dataclasses.replace(job, body=body, target=attempt.node))
        link = self._around.link(attempt.path[1])
        name = self._name(attempt)
        if link is None:
            raise PeerFailed(f"{name} cannot be reached: the link is gone")
        envelope = envelope_of(job, attempt.node, trio.current_time())
        return await remote.ask(link, envelope, body, self._around.me, name)
