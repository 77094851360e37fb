"""Jobs from random origins: chosen by the real routing, pursued by the real machine, to one end each by their deadline.

Follows dispatch.dispatcher and dispatch.chase. Counterpart: desk.py, every node's side of what it serves and passes on.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshnode.dispatch import wire as headers
from meshnode.dispatch.course import REDIRECTS, Course
from meshnode.dispatch.pursuit import Pursuit, Rules
from meshnode.dispatch.pursuit_events import (
    Answered,
    Begin,
    Drop,
    Event,
    Failed,
    Fault,
    Lose,
    Quiet,
    Role,
    Try,
    Why,
    Win,
    Woke,
)
from meshnode.errors import DeadlineExceeded, NoPeerReachable, Overloaded, PeerFailed, RequestError
from meshnode.gossip.overlay_events import Requested
from meshnode.model.job import Facts, Job, Label, Wishes
from meshnode.routing import Attempt, Flight, LocalState, Plan
from meshnode.routing.load import busy_share
from meshnode.slots import Load
from tests.simulation.desk import CHUNKS, HOPS, SECTION, Desk, Said, Stream
from tests.simulation.network import Wire

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

LATE_S = 2.0
"""Every job ends this long after its deadline at the latest (requests.md §5)."""

SENSITIVE = 0.15
RACED = 0.1
"""Shares of the jobs that only pinned nodes may serve, and that are raced."""

HEDGED_AFTER_S = 1.5
"""Too little is measured in a run to know what is unusually late, and hedges are what makes older attempts go on."""

_NOW_S = 1e-6
"""Clocks are computed back and forth: woken a little late rather than early for nothing."""


@dataclass(slots=True, eq=False)
class Run:
    """One job at its origin, until it ends. `won` is the attempt that is delivered, `pieces` of it so far; `granted`
    are the attempts that got a slot."""

    number: int
    job: Job
    node: SimNode
    life: int
    asked_at: float
    until: float
    pursuit: Pursuit | None = None
    streams: dict[int, Stream] = field(default_factory=dict)
    flights: dict[int, tuple[Attempt, Flight]] = field(default_factory=dict)
    wakeup: float | None = None
    last: RequestError | None = None
    won: int = 0
    pieces: int = 0
    granted: set[int] = field(default_factory=set)
    ended: str = ""


class Jobs:
    """Every job of a world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"jobs {seed}")
        self.runs: list[Run] = []
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[int] = Counter()
        self.hops: Counter[int] = Counter()
        self.roles: Counter[str] = Counter()
        self.expired = 0
        self.quiet = 0
        self.superseded = 0
        self._desks: dict[SimNode, Desk] = {}
        self._asked: dict[tuple[SimNode, int], list[float]] = {}
        self._retried: dict[tuple[SimNode, int], list[float]] = {}

    def desk(self, node: SimNode) -> Desk:
        """What this life of a node keeps."""
        found = self._desks.get(node)
        if found is None or found.life != node.life:
            found = self._desks[node] = Desk(self, node, node.life)
        return found

    # The origin, as dispatch.dispatcher and dispatch.chase.

    def ask(self, node: SimNode, model: str, patience_s: float) -> None:
        """A client of `node` asks."""
        now, rng = node.clock(), self.rng
        number = len(self.runs)
        facts = Facts(model, stream=True, prompt_tokens=rng.randrange(50, 2000), max_tokens=100)
        label = Label.SENSITIVE if rng.random() < SENSITIVE else Label.INTERNAL
        wishes = Wishes(fanout=rng.choice((2, 3)) if rng.random() < RACED else 1)
        job = Job(
            f"job{number}", "/v1/chat/completions", b"", facts, node.id, now + patience_s,
            hops_left=HOPS, label=label, wishes=wishes,
        )  # fmt: skip
        plan = node.router.consider(job, node.view(), self._local(node), rng, now)
        run = Run(number, job, node, node.life, self.world.loop.now, self.world.loop.now + patience_s)
        self.runs.append(run)
        if plan.refusal is not None:
            self._end(run, plan.refusal.code)
            return
        self._asked.setdefault((node, node.life), []).append(now)
        run.pursuit = self._pursuit(run, plan)
        node.after(patience_s, self._too_late, run)
        self._pursue(run, Begin())

    def _pursuit(self, run: Run, plan: Plan) -> Pursuit:
        node, job, desk = run.node, run.job, self.desk(run.node)
        many = 1 if job.label is Label.SENSITIVE else job.wishes.fanout
        router, view, most = node.router, node.view, max(1 + SECTION.retries, many)
        course = Course(plan, HOPS, most, router, view, node.links.get)  # type: ignore[arg-type]
        hedged = job.facts.prompt_tokens <= SECTION.hedge_prompt_tokens and job.label is not Label.SENSITIVE
        rules = Rules(
            many,
            lambda _: HEDGED_AFTER_S if hedged else None,
            lambda: busy_share(plan, view(), router.known.measurements, self._local(node), node.clock()),
            SECTION.hedge_load,
            SECTION.backoff_s,
            lambda attempt: attempt.node != node.id,
            besides=job.label is not Label.SENSITIVE,
        )
        return Pursuit(course, rules, desk.budgets, self.rng)

    def _pursue(self, run: Run, event: Event) -> None:
        pursuit, node = run.pursuit, run.node
        assert pursuit is not None
        events = deque([event])
        while events:
            commands = pursuit.handle(events.popleft(), node.clock())
            for command in commands:
                match command:
                    case Try():
                        failed = self._try(run, command)
                        if failed is not None:
                            events.append(failed)
                    case Drop(number):
                        hung = number in pursuit.hung and isinstance(commands[-1], Win)
                        learn = node.router.failed if hung else node.router.cancelled
                        learn(run.flights[number][1], node.clock())
                        self._let_go(run.streams.pop(number))
                    case Win(number):
                        run.won = number
                        node.router.first_token(run.flights[number][1], node.clock())
                    case Lose(why):
                        error = run.last or NoPeerReachable("nobody was left to ask")
                        self._end(run, "budget" if why is Why.BUDGET else error.code)
        wakeup = pursuit.next_wakeup() if not pursuit.ended else None
        if wakeup is not None and wakeup != run.wakeup:
            run.wakeup = wakeup
            node.after(max(0.0, wakeup - node.clock()) + _NOW_S, self._woke, run, wakeup)

    def _woke(self, run: Run, wakeup: float) -> None:
        if not run.ended and run.wakeup == wakeup:
            run.wakeup = None
            self._pursue(run, Woke())

    def _try(self, run: Run, order: Try) -> Failed | None:
        """Ask; what there is instead of an answer where there is no way."""
        node, attempt, now = run.node, order.attempt, run.node.clock()
        self.roles[order.role.value] += 1
        if order.role is Role.RETRY:
            self._retried.setdefault((node, node.life), []).append(now)
        flight = node.router.started(attempt, run.job.facts.prompt_tokens, now, at_once=order.at_once)
        run.flights[order.number] = attempt, flight
        desk = self.desk(node)
        stream = run.streams[order.number] = desk.stream(run, order.number)
        sent = dataclasses.replace(run.job, id=f"{run.job.id}.{node.number}.{node.life}")
        envelope = headers.envelope_of(sent, order.number, attempt.node, now, at_once=order.at_once)
        if attempt.node == node.id:
            desk.serve(stream, envelope, fenced=False)
            return None
        link = node.links.get(attempt.path[1])
        node.overlay_event(Requested(attempt.node))
        if link is not None and not any(link.parted):
            desk.send(stream, link, envelope)
            return None
        desk.close(stream, answered=True)
        return self._failed(run, order.number, PeerFailed("the link is gone"))

    def answer(self, stream: Stream, said: Said) -> None:
        """Something of an attempt is here. What a hop of an older attempt says is nobody's."""
        run, number = stream.run, stream.attempt
        if run.ended or run.streams.get(number) is not stream:
            return
        node, now = run.node, run.node.clock()
        attempt, flight = run.flights[number]
        if said.attempt != number:
            self.world.watch.broken(f"job {run.number}: attempt {said.attempt} answers attempt {number}")
        if said.load is not None and attempt.node != node.id:
            node.router.reported(attempt.node, attempt.model, said.load, now)
        if said.error is None:
            self._piece(run, number, said)
        elif run.won == number:
            self._learn(run, flight, said.error)
            self._end(run, f"cut: {said.error.code}")
        else:
            del run.streams[number]
            self._pursue(run, self._failed(run, number, said.error))

    def fell_quiet(self, stream: Stream) -> None:
        """Nothing is heard of an attempt. Once an answer has begun nobody is asked besides."""
        run = stream.run
        if not run.ended and not run.won and run.streams.get(stream.attempt) is stream:
            self.quiet += 1
            self._pursue(run, Quiet(stream.attempt))

    def _piece(self, run: Run, number: int, said: Said) -> None:
        if not run.won:
            self._pursue(run, Answered(number))
        if run.won != number:
            self.world.watch.broken(f"job {run.number} is told attempt {number} besides {run.won}")
        if said.index != run.pieces:
            self.world.watch.broken(f"job {run.number} gets piece {said.index} in place of {run.pieces}")
        run.pieces += 1
        if run.pieces == CHUNKS:
            run.node.router.finished(run.flights[number][1], 100, run.node.clock())
            self._end(run, "ok")

    def _failed(self, run: Run, number: int, error: RequestError) -> Failed:
        self._learn(run, run.flights[number][1], error)
        if run.last is None or run.last.elsewhere:
            run.last = error
        full = isinstance(error, Overloaded)
        return Failed(number, Fault.FULL if full else Fault.BROKEN if error.elsewhere else Fault.FINAL)

    def _learn(self, run: Run, flight: Flight, error: RequestError) -> None:
        router, now = run.node.router, run.node.clock()
        if isinstance(error, Overloaded):
            router.refused(flight, error.retry_after_s, now)
        elif error.elsewhere:
            router.failed(flight, now)
        else:
            router.cancelled(flight, now)

    def _too_late(self, run: Run) -> None:
        """Its time is over. So short a deadline is its client's haste, and no fault of a server."""
        if run.ended:
            return
        now = run.node.clock()
        for _, flight in run.flights.values():
            run.node.router.cancelled(flight, now)
        self._end(run, DeadlineExceeded.code)

    def _let_go(self, stream: Stream) -> None:
        if stream.life == stream.node.life:
            self.desk(stream.node).cancel(stream)

    def _end(self, run: Run, outcome: str) -> None:
        if run.ended:
            self.world.watch.broken(f"job {run.number} ended twice: {run.ended}, {outcome}")
        run.ended = outcome
        for stream in run.streams.values():
            self._let_go(stream)
        self.outcomes[outcome] += 1
        now, node = self.world.loop.now, run.node
        self.world.watch.tell(f"job {run.number} of n{node.number}: {outcome} after {now - run.asked_at:.2f} s")
        if now > run.until + LATE_S and node.life == run.life and node.thawed_at < run.asked_at:
            self.world.watch.broken(
                f"job {run.number} of n{node.number} ended {now - run.until:.2f} s after its deadline"
            )

    # What links bring, and their ends.

    def arrive(self, node: SimNode, link: Wire, what: tuple[Stream, headers.Headers]) -> None:
        """A job."""
        node.heard(link)
        if not link.closed[link.end(node)]:
            self.desk(node).arrived(link, *what)

    def told(self, node: SimNode, link: Wire, what: tuple[Stream, Said]) -> None:
        """What came of one."""
        node.heard(link)
        self.desk(node).hear(link, *what)

    def cancelled(self, node: SimNode, link: Wire, upstream: Stream) -> None:
        """It is not wanted any more."""
        if upstream.downstream is not None:
            self.desk(node).cancel(upstream.downstream)

    def cut(self, node: SimNode, link: Wire) -> None:
        """A link of `node` ended."""
        self.desk(node).cut(link)

    def on(self, node: SimNode, link: Wire) -> int:
        """How many jobs use a link of `node`."""
        return sum(link in (stream.up, stream.down) for stream in self.desk(node).streams.values())

    def died(self, node: SimNode) -> None:
        """A node's life has ended, and its clients with it."""
        self._desks.pop(node, None)
        for run in self.runs:
            if run.node is node and not run.ended:
                run.streams.clear()
                self._end(run, "its origin died")

    def loads(self, node: SimNode) -> list[Load]:
        """What each engine of a node has to do, by its own word."""
        return self.desk(node).loads()

    def _local(self, node: SimNode) -> LocalState:
        desk = self.desk(node)
        return LocalState(dict(zip(desk.gates, desk.loads(), strict=True)))

    # What must hold after the last deadline.

    def check(self) -> None:
        """Every job has ended, nothing is held, nothing ran more often than it was tried, retries kept to budget."""
        watch = self.world.watch
        for run in self.runs:
            made = run.pursuit.made if run.pursuit is not None else 0
            if not run.ended:
                watch.broken(f"job {run.number} of n{run.node.number} never ended")
            if made > 1 + SECTION.retries + REDIRECTS:
                watch.broken(f"job {run.number} was tried {made} times")
            if not run.granted <= set(range(1, made + 1)):
                watch.broken(f"job {run.number} ran as attempts {run.granted} of {made}")
        for node, desk in self._desks.items():
            if node.up and node.life == desk.life and not node.frozen and node.honest and (held := desk.held()):
                watch.broken(f"n{node.number} still holds {held}")
        for (node, life), retried in self._retried.items():
            self._within_budget(node, retried, self._asked[node, life])

    def _within_budget(self, node: SimNode, retried: list[float], asked: list[float]) -> None:
        """A window is counted in pieces, the oldest of which may be forgotten before its time."""
        window_s = SECTION.retry_window_s
        for at in retried:
            many = sum(at - 0.9 * window_s < other <= at for other in retried)
            of = sum(at - window_s <= other <= at for other in asked)
            if many > max(SECTION.retry_floor_per_s * window_s, SECTION.retry_share * of):
                self.world.watch.broken(f"n{node.number} made {many} retries for {of} requests within {window_s:g} s")
