"""The origin's side of a request: plan, try, and hand back an answer whose first bytes are here.

Before the first byte another server may be tried; after it an error is the answer's own (front tells the client
in-stream). Every decision is routing's; this performs it and reports what was measured. Counterpart: inbound.py.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import trio

from meshnode.config.dispatch import DispatchSection
from meshnode.dialects.facts import rewrite_model
from meshnode.dispatch import remote, ways, wire
from meshnode.dispatch.course import Course
from meshnode.dispatch.delivered import Delivered
from meshnode.dispatch.local import Local
from meshnode.dispatch.watch import Watch
from meshnode.errors import DeadlineExceeded, NoPeerReachable, Overloaded, PeerFailed, RequestError
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.routing import Attempt, Flight, Plan, Router, reason

if TYPE_CHECKING:
    from meshnode.mesh.tunnels import Tunnels
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job
    from meshnode.model.view import View
    from meshnode.net.link import Link
    from meshnode.observe.metrics import Metrics

logger = log.get("dispatch")

HASTY_S = 5.0
"""A deadline this much shorter than the usual patience is the client's own haste."""

REQUEST_ID_CHARACTERS = 96
"""Of a request's id in its job's id between nodes, which has 128 at most, so that logs of all hops can be joined."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What dispatch needs of the node around it, handed in by node.py.

    `link` gives the live link to a neighbour, `tunnels` the virtual links of the present membership; `relay_class` is
    how requests pass relays unless they say it themselves; `may(node, role)` says whether a node's certificate gives it
    a role.
    """

    me: NodeId
    relays: bool
    view: Callable[[], View]
    link: Callable[[NodeId], Link | None]
    router: Router
    local: Local
    metrics: Metrics
    may: Callable[[NodeId, str], bool]
    tunnels: Callable[[], Tunnels]
    relay_class: str


@dataclass(frozen=True, slots=True)
class _Tried:
    """The server that answered, as the `number`th of `plan`'s attempts, counted from 1. `path`: the nodes that the
    answer came by; `privacy`: what those between could read."""

    answer: Answer
    path: tuple[NodeId, ...]
    privacy: str
    attempt: Attempt
    flight: Flight
    number: int


class Dispatcher:
    """`await dispatch(job)` returns an Answer or raises a RequestError; leaving it cancels everything behind it."""

    def __init__(self, around: Surroundings, section: DispatchSection, watch: Watch, rng: Random) -> None:
        self._around = around
        self._section = section
        self._watch = watch
        self._rng = rng
        self.running = 0
        self.answered = 0
        self.failed = 0

    async def dispatch(self, job: Job) -> Delivered:
        """Answer one request of this node's own clients. Raises RequestError when nobody could."""
        began = trio.current_time()
        if job.hops_left != self._section.hops:
            job = dataclasses.replace(job, hops_left=self._section.hops)
        self.running += 1
        try:
            around = self._around
            plan = around.router.plan(job, around.view(), around.local.state(), self._rng, began)
            tried = await self._first_that_answers(job, plan, began)
        except RequestError as error:
            self._settle("", "", error.code)
            raise
        except BaseException:
            self._settle("", "", "cancelled")
            raise
        node = around.view().name(tried.path[-1])
        around.metrics.first_token(tried.attempt.model, node, trio.current_time() - began)
        headers, ended = self._headers(tried, plan), self._at_end(tried, node, job.deadline)
        return Delivered(tried.answer, headers, self._section.silence_s, self._watch, ended, job.deadline)

    async def _first_that_answers(self, job: Job, plan: Plan, began: float) -> _Tried:
        phase_s = self._section.first_token_s if job.facts.stream else self._section.whole_s
        until = min(job.deadline, began + phase_s)
        last: RequestError | None = None
        around = self._around
        course = Course(plan, job.hops_left, 1 + self._section.retries, around.router, around.view, around.link)
        # Clients may use an id twice; peers refuse a job that they have met.
        sent_as = f"{job.id[:REQUEST_ID_CHARACTERS]}.{secrets.token_hex(8)}"
        while (attempt := course.next()) is not None:
            around.metrics.attempt()
            flight = around.router.started(attempt, job.facts.prompt_tokens, trio.current_time())
            try:
                with trio.CancelScope(deadline=until) as patience:
                    tried = await self._try(job, sent_as, course.number, attempt, flight)
            except RequestError as error:
                self._learn(flight, error)
                if not error.elsewhere:
                    raise
                last = error
                course.failed(attempt, cut=isinstance(error, PeerFailed) and ways.cut(around, job, attempt))
                # Without the error's text: an engine's may quote the prompt.
                logger.info("a server did not answer", job=job.id, node=self._name(attempt), attempt=course.number,
                            code=error.code)  # fmt: skip
            except BaseException:
                around.router.cancelled(flight, trio.current_time())
                raise
            else:
                if patience.cancelled_caught:
                    # A deadline that its client cut short says little of the server.
                    short = job.deadline < began + phase_s - HASTY_S
                    (around.router.cancelled if short else around.router.failed)(flight, trio.current_time())
                    raise self._too_slow(job, attempt, trio.current_time() - began)
                self._answered(tried)
                return tried
        try:
            raise last if last is not None else NoPeerReachable(f"nobody was left to ask for {job.facts.model!r}")
        finally:
            # An error that its own traceback's frame holds would keep the body until the next full collection.
            del last

    async def _try(self, job: Job, sent_as: str, number: int, attempt: Attempt, flight: Flight) -> _Tried:
        around = self._around
        asked = job
        if attempt.model != job.facts.model:
            facts = dataclasses.replace(job.facts, model=attempt.model)
            job = dataclasses.replace(job, body=rewrite_model(job.body, attempt.model), facts=facts)
        if attempt.node == around.me:
            return _Tried(await around.local.serve(job), attempt.path, ways.DIRECT, attempt, flight, number)
        way = await ways.find(around, job, attempt)
        sent, now = dataclasses.replace(job, id=sent_as), trio.current_time()
        envelope = wire.envelope_of(sent, number, attempt.node, now, free=ways.free(asked, attempt, way))
        answer = await remote.ask(way.link, envelope, job.body, around.me, self._name(attempt))
        return _Tried(answer, ways.passed(way, answer.headers), way.privacy, attempt, flight, number)

    def _answered(self, tried: _Tried) -> None:
        now = trio.current_time()
        if tried.path[-1] == tried.attempt.node:
            self._around.router.first_token(tried.flight, now)
        else:
            # A relay chose another server: how quick that is says nothing of the one that was meant.
            self._around.router.cancelled(tried.flight, now)

    def _learn(self, flight: Flight, error: RequestError) -> None:
        now = trio.current_time()
        if isinstance(error, Overloaded):
            self._around.router.refused(flight, error.retry_after_s, now)
        elif error.elsewhere:
            self._around.router.failed(flight, now)
        else:
            self._around.router.cancelled(flight, now)

    def _at_end(
        self, tried: _Tried, node: str, deadline: float
    ) -> Callable[[Delivered, RequestError | None, bool], None]:
        def ended(answer: Delivered, error: RequestError | None, whole: bool) -> None:
            now = trio.current_time()
            if error is not None and now <= deadline:
                self._around.router.failed(tried.flight, now)
            elif whole:
                self._around.router.finished(tried.flight, answer.chunks, now)
            else:
                self._around.router.cancelled(tried.flight, now)
            outcome = error.code if error is not None else "ok" if whole else "cancelled"
            self._settle(tried.attempt.model, node, outcome)

        return ended

    def _settle(self, model: str, node: str, outcome: str) -> None:
        self.running -= 1
        if outcome == "ok":
            self.answered += 1
        elif outcome != "cancelled":
            self.failed += 1
        self._around.metrics.ended(model, node, outcome)

    def _headers(self, tried: _Tried, plan: Plan) -> dict[str, str]:
        view = self._around.view()
        return {
            **{name: value for name, value in tried.answer.headers.items() if name != wire.PATH},
            "x-meshnode-node": _visible(view.name(tried.path[-1])),
            "x-meshnode-model": _visible(tried.attempt.model),
            "x-meshnode-path": _visible(" > ".join(view.name(node) for node in tried.path)),
            "x-meshnode-privacy": tried.privacy,
            "x-meshnode-reason": _visible(reason(plan, tried.number - 1)),
            "x-meshnode-attempts": str(tried.number),
        }

    def _name(self, attempt: Attempt) -> str:
        return self._around.view().name(attempt.node)

    def _too_slow(self, job: Job, attempt: Attempt, waited_s: float) -> DeadlineExceeded:
        phase = "first_token" if job.facts.stream else "total"
        what = "the first token" if job.facts.stream else "the answer"
        return DeadlineExceeded(f"{self._name(attempt)} did not send {what} within {waited_s:.1f} s", phase=phase)


def _visible(text: str) -> str:
    """Header values are one line of Latin text; node names are people's."""
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
