"""Jobs from random origins, hop by hop through the real routing, admitted by the real slots, served in seeded times.

Follows dispatch.dispatcher at the origin and dispatch.inbound at every other hop; envelopes are written and read by
dispatch.wire, retries are dispatch.course's. Not for links (network.py).
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshnode.config.dispatch import DispatchSection
from meshnode.dispatch import wire as headers
from meshnode.dispatch.course import Course
from meshnode.dispatch.wire import Envelope
from meshnode.errors import (
    BadRequest,
    DeadlineExceeded,
    DecodeError,
    EngineFailed,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
)
from meshnode.gossip.overlay_events import Requested
from meshnode.model.job import Facts, Job
from meshnode.routing import Attempt, Flight, LocalState
from meshnode.slots import Admission, Ask, Granted, Leave, Load
from tests.simulation.network import Wire

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

RETRIES = DispatchSection().retries
HOPS = DispatchSection().hops

LATE_S = 2.0
"""Every job ends this long after its deadline at the latest (requests.md §5)."""


@dataclass(slots=True, eq=False)
class Stream:
    """A job at one hop. `upstream` is the hop before, over `up`; `downstream` the one behind, over `down`."""

    node: SimNode
    life: int
    run: Run
    up: Wire | None = None
    upstream: Stream | None = None
    down: Wire | None = None
    downstream: Stream | None = None
    model: str = ""
    ticket: str = ""
    over: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """One job at its origin, until it ends."""

    number: int
    job: Job
    node: SimNode
    life: int
    course: Course
    asked_at: float
    stream: Stream | None = None
    attempt: Attempt | None = None
    flight: Flight | None = None
    answered: bool = False
    grants: int = 0
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
        self._streams: dict[SimNode, dict[Stream, None]] = {}
        self._gates: dict[tuple[SimNode, int], dict[str, Admission]] = {}
        self._waiting: dict[tuple[SimNode, str], Stream] = {}
        self._tickets = 0

    # The origin, as dispatch.dispatcher.

    def ask(self, node: SimNode, model: str, patience_s: float) -> None:
        """A client of `node` asks."""
        now = node.clock()
        number = len(self.runs)
        facts = Facts(model, prompt_tokens=self.rng.randrange(50, 2000), max_tokens=100)
        job = Job(f"job{number}", "/v1/chat/completions", b"", facts, node.id, now + patience_s, hops_left=HOPS)
        plan = node.router.consider(job, node.view(), self._local(node), self.rng, now)
        course = Course(plan, HOPS, 1 + RETRIES, node.router, node.view, node.links.get)  # type: ignore[arg-type]
        run = Run(number, job, node, node.life, course, self.world.loop.now)
        self.runs.append(run)
        if plan.refusal is not None:
            self._end(run, plan.refusal.code)
            return
        node.after(patience_s, self._too_late, run)
        self._next(run, NoPeerReachable("nobody was left to ask"))

    def _next(self, run: Run, last: RequestError) -> None:
        node = run.node
        while (attempt := run.course.next()) is not None:
            now = node.clock()
            run.attempt, run.flight = attempt, node.router.started(attempt, run.job.facts.prompt_tokens, now)
            run.stream = stream = self._stream(node, run)
            sent = dataclasses.replace(run.job, id=f"{run.job.id}.{node.number}.{node.life}")
            envelope = headers.envelope_of(sent, run.course.number, attempt.node, now)
            if attempt.node == node.id:
                self._serve(stream, envelope)
                return
            link = node.links.get(attempt.path[1])
            node.overlay_event(Requested(attempt.node))
            if link is not None and not any(link.parted):
                self._send(stream, link, envelope)
                return
            self._learn(run, last := PeerFailed("the link is gone"))
        self._end(run, last.code)

    def _answer(self, run: Run, stream: Stream, what: RequestError | str) -> None:
        """The first bytes, the end or an error came back. What a hop of an older attempt says is nobody's."""
        if run.stream is not stream or run.ended or run.flight is None:
            return
        node, now = run.node, run.node.clock()
        if what == "first":
            node.router.first_token(run.flight, now)
            run.answered = True
        elif what == "done":
            node.router.finished(run.flight, 100, now)
            self._end(run, "ok")
        elif isinstance(what, RequestError):
            self._learn(run, what)
            if run.answered or not what.elsewhere:
                self._end(run, f"cut: {what.code}" if run.answered else what.code)
            else:
                self._next(run, what)

    def _learn(self, run: Run, error: RequestError) -> None:
        router, now = run.node.router, run.node.clock()
        assert run.flight is not None and run.attempt is not None
        if isinstance(error, Overloaded):
            router.refused(run.flight, error.retry_after_s, now)
        elif error.elsewhere:
            router.failed(run.flight, now)
        else:
            router.cancelled(run.flight, now)
        if error.elsewhere and not run.answered:
            run.course.failed(run.attempt)

    def _too_late(self, run: Run) -> None:
        if not run.ended and run.stream is not None and run.flight is not None:
            run.node.router.failed(run.flight, run.node.clock())
            self._cancel(run.stream)
            self._end(run, DeadlineExceeded.code)

    def _end(self, run: Run, outcome: str) -> None:
        if run.ended:
            self.world.watch.broken(f"job {run.number} ended twice: {run.ended}, {outcome}")
        run.ended = outcome
        self.outcomes[outcome] += 1
        late_s = self.world.loop.now - run.asked_at
        self.world.watch.tell(f"job {run.number} of n{run.node.number}: {outcome} after {late_s:.2f} s")

    # Every other hop, as dispatch.inbound.

    def _send(self, stream: Stream, link: Wire, envelope: Envelope) -> None:
        stream.down = link
        what = (stream, headers.write(envelope, stream.node.id))
        self.world.network.send(link, stream.node, self._arrive, what)

    def _arrive(self, node: SimNode, link: Wire, what: tuple[Stream, headers.Headers]) -> None:
        upstream, written = what
        node.heard(link)
        if link.closed[link.end(node)]:
            return
        stream = upstream.downstream = self._stream(node, upstream.run)
        stream.up, stream.upstream = link, upstream
        try:
            envelope = headers.read(written)
            self._check(node, link, envelope)
            if node in self.world.black_holes:
                return
            if envelope.target == node.id:
                self._serve(stream, envelope)
            else:
                self._pass_on(stream, envelope)
        except DecodeError as error:
            self._refuse(stream, BadRequest(str(error)))
        except RequestError as error:
            self._refuse(stream, error)

    def _check(self, node: SimNode, link: Wire, envelope: Envelope) -> None:
        if envelope.path[-1] != link.peer(node).id:
            raise BadRequest("the path does not end with the sender")
        if node.id in envelope.path:
            raise NoPeerReachable("a loop")
        if not node.seen.first((envelope.origin, envelope.id, envelope.attempt), node.clock()):
            raise BadRequest("this attempt has been here before")
        path = (*envelope.path, node.id)
        if len(set(path)) != len(path) or len(path) > HOPS + 1:
            self.world.watch.broken(f"job {envelope.id} took the path {[other.short for other in path]}")

    def _pass_on(self, stream: Stream, envelope: Envelope) -> None:
        node = stream.node
        hop = node.router.next_hop(node.view(), envelope.target, envelope.path, envelope.hops_left)
        link = node.links.get(hop) if hop is not None else None
        if link is None or any(link.parted):
            raise NoPeerReachable("there is no path")
        self._send(stream, link, envelope)

    def _serve(self, stream: Stream, envelope: Envelope) -> None:
        node, model = stream.node, stream.run.job.facts.model
        gate = self._gates_of(node).get(model)
        if gate is None:
            self._refuse(stream, EngineFailed("no engine here"))
            return
        self._tickets += 1
        stream.ticket, stream.model = f"t{self._tickets}", model
        self.hops[len(envelope.path)] += 1
        self._waiting[node, stream.ticket] = stream
        self._admit(
            node, model, gate, Ask(stream.ticket, node.clock() + envelope.remaining_s, owner=str(envelope.origin))
        )

    def _admit(self, node: SimNode, model: str, gate: Admission, event: Ask | Leave) -> None:
        for command in gate.handle(event, node.clock()):
            stream = self._waiting[node, command.ticket]
            if isinstance(command, Granted):
                stream.run.grants += 1
                self.served[node.number] += 1
                first_s, whole_s = self.world.service_s(node)
                node.after(first_s, self._progress, stream, "first")
                node.after(first_s + whole_s, self._progress, stream, "done")
            else:
                del self._waiting[node, command.ticket]
                stream.ticket = ""
                self._refuse(stream, Overloaded(command.reason, retry_after_s=command.retry_after_s))

    def _progress(self, stream: Stream, what: str) -> None:
        if stream.over or not stream.ticket:
            return
        if what == "done":
            self._leave(stream)
        self._up(stream, what)

    def _leave(self, stream: Stream) -> None:
        """Give the slot, or the place in the queue, back."""
        node, ticket = stream.node, stream.ticket
        stream.ticket = ""
        if ticket and self._waiting.pop((node, ticket), None) is not None:
            self._admit(node, stream.model, self._gates_of(node)[stream.model], Leave(ticket))

    def _refuse(self, stream: Stream, error: RequestError) -> None:
        self._up(stream, error)

    def _up(self, stream: Stream, what: RequestError | str) -> None:
        """Hand an answer to the hop before; at the origin, to the run."""
        if what != "first":
            self._close(stream)
        if stream.upstream is None:
            self._answer(stream.run, stream, what)
        elif stream.up is not None and not stream.up.closed[stream.up.end(stream.node)]:
            self.world.network.send(stream.up, stream.node, self._answered, (stream.upstream, what))

    def _answered(self, node: SimNode, link: Wire, what: tuple[Stream, RequestError | str]) -> None:
        stream, said = what
        node.heard(link)
        if not stream.over and stream.down is link:
            self._up(stream, said)

    # Leaving.

    def cut(self, node: SimNode, link: Wire) -> None:
        """A link of `node` ended: what came over it is cancelled, what went over it has failed."""
        for stream in [one for one in self._streams.get(node, ()) if link in (one.up, one.down)]:
            if stream.up is link:
                self._cancel(stream)
            elif not stream.over:
                self._up(stream, PeerFailed("the link was lost"))

    def on(self, node: SimNode, link: Wire) -> int:
        """How many jobs use a link of `node`."""
        return sum(link in (stream.up, stream.down) for stream in self._streams.get(node, ()))

    def died(self, node: SimNode) -> None:
        """A node's life has ended, and its clients with it."""
        self._streams.pop(node, None)
        for key in [key for key in self._waiting if key[0] is node]:
            del self._waiting[key]
        for run in self.runs:
            if run.node is node and not run.ended:
                self._end(run, "its origin died")

    def _cancel(self, stream: Stream) -> None:
        """Nobody wants the answer: from here to the server all is given back."""
        if stream.over:
            return
        self._leave(stream)
        self._close(stream)
        if stream.down is not None and not stream.down.closed[stream.down.end(stream.node)]:
            self.world.network.send(stream.down, stream.node, self._cancelled, stream)

    def _cancelled(self, node: SimNode, link: Wire, upstream: Stream) -> None:
        if upstream.downstream is not None:
            self._cancel(upstream.downstream)

    def _stream(self, node: SimNode, run: Run) -> Stream:
        stream = Stream(node, node.life, run)
        self._streams.setdefault(node, {})[stream] = None
        return stream

    def _close(self, stream: Stream) -> None:
        stream.over = True
        self._streams.get(stream.node, {}).pop(stream, None)

    def _gates_of(self, node: SimNode) -> dict[str, Admission]:
        key = (node, node.life)
        if key not in self._gates:
            self._gates[key] = {offer.name: Admission(offer.slots, 8) for offer in node.engines}
        return self._gates[key]

    def loads(self, node: SimNode) -> list[Load]:
        """What each engine of a node has to do now; a liar says: nothing."""
        gates = self._gates_of(node)
        if node in self.world.liars:
            return [Load(64, 0, 0, 0.0) for _ in gates]
        return [gate.snapshot(node.clock()) for gate in gates.values()]

    def _local(self, node: SimNode) -> LocalState:
        return LocalState(dict(zip(self._gates_of(node), self.loads(node), strict=True)))

    def check(self) -> None:
        """After the last deadline: every job has ended, no slot is held, nothing ran more often than it was tried."""
        for run in self.runs:
            if not run.ended:
                self.world.watch.broken(f"job {run.number} of n{run.node.number} never ended")
            if run.grants > max(1, run.course.number):
                self.world.watch.broken(f"job {run.number} ran {run.grants} times in {run.course.number} attempts")
        for (node, life), gates in self._gates.items():
            if node.up and node.life == life and not node.frozen and node.honest:
                for model, gate in gates.items():
                    load = gate.snapshot(node.clock())
                    if load.busy or load.queued:
                        self.world.watch.broken(f"n{node.number} still holds {load.busy} slots of {model}")
