"""The origin's side of a request: plan, try, and hand back an answer whose first bytes are here.

Before the first byte another server may be tried; after it an error is the answer's own (front tells the client
in-stream). Who is chosen is routing's decision, who is tried when pursuit.py's; chase.py performs them. Counterpart:
inbound.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import trio

from meshnode.config.dispatch import DispatchSection
from meshnode.dispatch import wire
from meshnode.dispatch.asking import Tried
from meshnode.dispatch.chase import Chase
from meshnode.dispatch.continuing import Origin, continuing
from meshnode.dispatch.course import REDIRECTS, Course
from meshnode.dispatch.delivered import Delivered, Ended, Patience
from meshnode.dispatch.doubt import DoubtAfter, Known, Size, answer_s, doubt_after
from meshnode.dispatch.journal import Entry, Journal, error_code
from meshnode.dispatch.leases import Leases
from meshnode.dispatch.local import Local
from meshnode.dispatch.pursuit import Pursuit, Rules
from meshnode.dispatch.pursuit_events import Role, Try
from meshnode.dispatch.watch import Watch
from meshnode.errors import Draining, RequestError
from meshnode.model.ids import NodeId
from meshnode.model.job import Label
from meshnode.routing import Attempt, Plan, Router, reason
from meshnode.routing.budget import Budgets
from meshnode.routing.load import busy_share, spare
from meshnode.routing.measure import units_of
from meshnode.routing.usual import Usual

if TYPE_CHECKING:
    from meshnode.dispatch.claims import Claims
    from meshnode.dispatch.clerk import Clerk
    from meshnode.dispatch.outside import Outside
    from meshnode.mesh.tunnels import Tunnels
    from meshnode.model.job import Job
    from meshnode.model.view import View
    from meshnode.net.link import Link
    from meshnode.observe.metrics import Metrics

HASTY_S = 5.0
"""A deadline this much shorter than the usual patience is the client's own haste."""

AT_ONCE_PATH_S = 0.5
AT_ONCE_BYTES = 256 * 1024
"""A server that is farther away, or has more to read, is not asked for a slot at once: to ask in vain would cost more
than to wait a little."""

OF_SERVERS = frozenset({"x-meshnode-queue-ms", "x-meshnode-queue-position"})
"""Of our own headers, those that come from whoever serves."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What dispatch needs of the node around it, handed in by node.py.

    `link` gives the live link to a neighbour, `tunnels` the virtual links of the present membership; `relay_class` is
    how requests pass relays unless they say it themselves; `may(node, role)` says whether a node's certificate gives it
    a role; `asked(node)` hears of each request to another node; `connect_s` is how long a way to a server may take;
    `clerk` signs for answers and keeps others' receipts, None where nobody shall; `outside` asks commercial APIs, None
    where there are none; `claims` makes and judges owner claims, None where none count.
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
    asked: Callable[[NodeId], None]
    leases: Leases
    connect_s: float
    clerk: Clerk | None = None
    outside: Outside | None = None
    claims: Claims | None = None


class Dispatcher:
    """`await dispatch(job)` returns an Answer or raises a RequestError; leaving it cancels everything behind it."""

    def __init__(self, around: Surroundings, section: DispatchSection, watch: Watch, rng: Random) -> None:
        self._around = around
        self._section = section
        self._watch = watch
        self._rng = rng
        self.budgets = Budgets.of(section)
        self._origin = Origin(around, section, self.budgets.retries, rng)
        self.usual = Usual(section.hedge_quantile)
        self.journal = Journal(section.journal, section.journal_bytes)
        self.running = 0
        self.answered = 0
        self.failed = 0

    async def dispatch(self, job: Job) -> Delivered:
        """Answer one request of this node's own clients. Raises RequestError when nobody could."""
        if self._around.local.draining:
            raise Draining("this node is shutting down")
        began = trio.current_time()
        owner = job.owner or self._around.local.share.owner
        if job.hops_left != self._section.hops or owner != job.owner:
            job = dataclasses.replace(job, hops_left=self._section.hops, owner=owner)
        self.running += 1
        job = self.constrain(job)
        around, entry = self._around, self.journal.begin(job, began)
        try:
            plan = around.router.consider(job, around.view(), around.local.state(), self._rng, began)
            entry.planned(plan, trio.current_time())
            self.journal.keep(entry)
            if plan.refusal is not None:
                try:
                    raise plan.refusal
                finally:
                    # An error that its own traceback's frame holds would keep the body until the next full collection.
                    del plan
            pursuit = self._pursuit(job, plan)
            tried = await self._first_that_answers(job, pursuit, entry, began)
        except RequestError as refused:
            return await self._outside(job, entry, refused)
        except BaseException as error:
            self._lost(entry, error)
            raise
        node = around.view().name(tried.path[-1])
        around.metrics.first_token(tried.order.attempt.model, node, trio.current_time() - began)
        headers, ended = self._headers(tried, plan, pursuit), self._at_end(tried, node, entry, job.deadline)
        tried = continuing(self._origin, job, tried, entry)
        patience = Patience(job.wishes.silence_s or self._section.silence_s, job.deadline)
        return Delivered(tried, headers, patience, self._watch, ended)

    async def _outside(self, job: Job, entry: Entry, refused: RequestError) -> Delivered:
        """The answer of a commercial API, where one may be asked. Raises `refused` where none may."""

        def settled(model: str, provider: str, outcome: str) -> None:
            entry.ended(trio.current_time(), outcome)
            self._settle(model, provider, outcome)

        outside = self._around.outside
        try:
            if outside is None:
                raise refused
            return await outside.dispatch(job, refused, entry, settled)
        except BaseException as error:
            self._lost(entry, error)
            raise

    def _lost(self, entry: Entry, error: BaseException) -> None:
        outcome = error_code(error)
        entry.ended(trio.current_time(), outcome)
        self._settle("", "", outcome)

    def place(self, request: str) -> int:
        """Where a request of this node's clients waits in a queue, here or at another node; 0 where it does not."""
        if here := self._around.local.position(request):
            return here
        entry = self.journal.find(request)
        return entry.place if entry is not None else 0

    def constrain(self, job: Job) -> Job:
        """The job under the rules of the alias that it names."""
        return self._around.router.constrain(job)

    def _pursuit(self, job: Job, plan: Plan) -> Pursuit:
        around, section = self._around, self._section
        many = 1 if job.label is Label.SENSITIVE else job.wishes.fanout
        most = max(1 + section.retries, many)
        course = Course(plan, job.hops_left, most, around.router, around.view, around.link)
        small = job.facts.stream and job.facts.prompt_tokens <= section.hedge_prompt_tokens
        hedged = small and job.label is not Label.SENSITIVE and len(plan.attempts) > 1

        def late_s(attempt: Attempt) -> float | None:
            if not hedged:
                return None
            return self.usual.late_s(attempt.node, attempt.model, units_of(job.facts.prompt_tokens))

        def load() -> float:
            measured, now = around.router.known.measurements, trio.current_time()
            return busy_share(plan, around.view(), measured, around.local.state(), now)

        def at_once(attempt: Attempt) -> bool:
            kept = plan.conversation == "kept" and attempt is plan.attempts[0]
            near = attempt.score.terms.path_s <= AT_ONCE_PATH_S and len(job.body) <= AT_ONCE_BYTES
            return near and attempt.node != around.me and not kept

        def known(attempt: Attempt) -> Known:
            record = around.router.known.measurements.of(attempt.model).get(attempt.node)
            return Known(record, around.view().offer(attempt.node, attempt.model))

        def patience(attempt: Attempt, now: float) -> DoubtAfter:
            others = (known(one) for one in (*plan.attempts, *plan.others) if one.node != attempt.node)
            size = Size.of(job.facts)
            takes_s = answer_s(size, known(attempt), others)
            return doubt_after(size, attempt.score.terms, takes_s, job.deadline - now, section)

        def has_slot(asked: Set[NodeId]) -> bool:
            others = (one for one in (*plan.attempts, *plan.others[:REDIRECTS]) if one.node not in asked)
            measured, now = around.router.known.measurements, trio.current_time()
            return spare(others, around.view(), measured, around.local.state(), now)

        rules = Rules(
            many, late_s, load, section.hedge_load, section.backoff_s, at_once, patience, section.hang_s, has_slot,
            besides=job.label is not Label.SENSITIVE,
        )  # fmt: skip
        return Pursuit(course, rules, self.budgets, self._rng)

    async def _first_that_answers(self, job: Job, pursuit: Pursuit, entry: Entry, began: float) -> Tried:
        first_token_s = job.wishes.first_token_s or self._section.first_token_s
        phase_s = first_token_s if job.facts.stream else self._section.whole_s
        chase = Chase(self._around, job, pursuit, entry)
        # A deadline that its client cut short says little of the server.
        hasty = job.deadline < began + phase_s - HASTY_S
        tried = await chase.run(min(job.deadline, began + phase_s), hasty=hasty)
        now = trio.current_time()
        self._answered(tried, now)
        entry.note(now, "answered", tried.order.number, tried.path[-1])
        entry.note(now, "first token")
        entry.queued(tried.answer.headers.get("x-meshnode-queue-ms", ""))
        return tried

    def _answered(self, tried: Tried, now: float) -> None:
        if tried.path[-1] == tried.order.attempt.node:
            self._around.router.first_token(tried.flight, now)
            self.usual.add(tried.flight, now)
        else:
            # A relay chose another server: how quick that is says nothing of the one that was meant.
            self._around.router.cancelled(tried.flight, now)

    def _at_end(self, tried: Tried, node: str, entry: Entry, deadline: float) -> Ended:
        def ended(answer: Delivered, error: RequestError | None, whole: bool) -> None:
            now = trio.current_time()
            if error is not None and now <= deadline:
                self._around.router.failed(tried.flight, now)
            elif whole:
                self._around.router.finished(tried.flight, answer.chunks, now)
            else:
                self._around.router.cancelled(tried.flight, now)
            outcome = error.code if error is not None else "ok" if whole or answer.said_all else "cancelled"
            entry.ended(now, outcome, answer.chunks)
            self._settle(tried.order.attempt.model, node, outcome)

        return ended

    def _settle(self, model: str, node: str, outcome: str) -> None:
        self.running -= 1
        if outcome == "ok":
            self.answered += 1
        elif outcome != "cancelled":
            self.failed += 1
        self._around.metrics.ended(model, node, outcome)

    def _headers(self, tried: Tried, plan: Plan, pursuit: Pursuit) -> dict[str, str]:
        view, order = self._around.view(), tried.order
        headers = {
            **_servers_own(tried.answer.headers),
            "x-meshnode-node": _visible(view.name(tried.path[-1])),
            "x-meshnode-model": _visible(order.attempt.model),
            "x-meshnode-path": _visible(" > ".join([view.name(node) for node in tried.path])),
            "x-meshnode-privacy": tried.privacy,
            "x-meshnode-reason": _visible(_why(plan, pursuit, order)),
            "x-meshnode-attempts": str(pursuit.made),
        }
        if pursuit.raced > 1:
            headers["x-meshnode-fanout"] = str(pursuit.raced)
        if pursuit.hedged:
            headers["x-meshnode-hedged"] = "won" if order.role is Role.HEDGE else "lost"
        return headers


def _why(plan: Plan, pursuit: Pursuit, order: Try) -> str:
    if order.role is Role.RACER:
        return f"quickest of {pursuit.raced} asked at once"
    if order.role is Role.DOUBT:
        return "asked besides those that said nothing, and answered first"
    if order.role is Role.HEDGE:
        return "asked besides the first, which was later than usual, and quicker"
    return reason(plan, order.number - 1)


def _servers_own(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that a server may fill: what else begins so is this node's word to its client."""
    return {
        name: value
        for name, value in headers.items()
        if name in OF_SERVERS or not (name == wire.PATH or name.startswith("x-meshnode-"))
    }


def _visible(text: str) -> str:
    """Header values are one line of Latin text; node names are people's."""
    if text.isascii() and text.isprintable():
        return text
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
