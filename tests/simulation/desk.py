"""One node's side of other nodes' jobs, and of its own that are served here: fenced, admitted, served or passed on.

Follows dispatch.inbound, dispatch.local and dispatch.leases; envelopes are written and read by dispatch.wire, slots,
leases and the fence are the real machines. Not for the origin (jobs.py) nor for links (network.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshnode.config.dispatch import DispatchSection
from meshnode.dispatch import wire as headers
from meshnode.dispatch.wire import Envelope
from meshnode.errors import (
    BadRequest,
    DecodeError,
    EngineFailed,
    LeaseExpired,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
    Superseded,
)
from meshnode.model.job import Label
from meshnode.routing.budget import Budgets, HedgeBudget
from meshnode.slots import Admission, Ask, Granted, Leave, Load, fence, lease
from tests.simulation.network import Wire

if TYPE_CHECKING:
    from tests.simulation.jobs import Jobs, Run
    from tests.simulation.node import SimNode

SECTION = DispatchSection()
HOPS = SECTION.hops
CHUNKS = 3
"""Of an answer: the first token, one half-way, and the end."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a hop tells the one before it: the `index`th piece of the answer, its end, a sign of life, or an error. A
    server's load comes with the last word."""

    attempt: int
    index: int = -1
    error: RequestError | None = None
    load: Load | None = None

    @property
    def last(self) -> bool:
        """Whether nothing comes after it."""
        return self.error is not None or self.index == CHUNKS - 1


@dataclass(slots=True, eq=False)
class Stream:
    """One attempt of a job at one hop. `upstream` is the hop before, over `up`; `downstream` the one behind, over
    `down`. `heard` and `said`: whether something came from behind, and went to the hop before, since the last look."""

    node: SimNode
    life: int
    run: Run
    attempt: int
    key: int
    up: Wire | None = None
    upstream: Stream | None = None
    down: Wire | None = None
    downstream: Stream | None = None
    model: str = ""
    ticket: str = ""
    fenced: bool = False
    heard: bool = False
    said: bool = False
    over: bool = False


@dataclass(slots=True, eq=False)
class Desk:
    """All that one life of a node keeps of jobs."""

    jobs: Jobs
    node: SimNode
    life: int
    gates: dict[str, Admission] = field(init=False)
    fence: fence.Fence = field(default_factory=lambda: fence.Fence(SECTION.seen_jobs, SECTION.seen_s))
    leases: lease.Leases = field(default_factory=lease.Leases)
    beats: lease.Beats = field(default_factory=lease.Beats)
    budgets: Budgets = field(default_factory=lambda: Budgets.of(SECTION)._replace(hedges=HedgeBudget(1.0)))
    streams: dict[int, Stream] = field(default_factory=dict)
    waiting: dict[str, Stream] = field(default_factory=dict)
    keys: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    looks: bool = False

    def __post_init__(self) -> None:
        self.gates = {offer.name: Admission(offer.slots, 8) for offer in self.node.engines}

    def stream(self, run: Run, attempt: int) -> Stream:
        """One more job is in hand here."""
        found = Stream(self.node, self.life, run, attempt, next(self.keys))
        self.streams[found.key] = found
        return found

    def loads(self) -> list[Load]:
        """What each engine has to do now; a liar says: nothing."""
        if self.node in self.jobs.world.liars:
            return [Load(64, 0, 0, 0.0) for _ in self.gates]
        now = self.node.clock()
        return [gate.snapshot(now) for gate in self.gates.values()]

    # Towards the server.

    def send(self, stream: Stream, link: Wire, envelope: Envelope) -> None:
        """The job goes to the next hop, on a lease."""
        stream.down = link
        now = self.node.clock()
        self.leases.handle(lease.Took(stream.key), now)
        if stream.upstream is not None:
            self.beats.handle(lease.PassedOn(stream.key), now)
        self._look_later()
        what = (stream, headers.write(envelope, self.node.id))
        self.jobs.world.network.send(link, self.node, self.jobs.arrive, what)

    def arrived(self, link: Wire, upstream: Stream, written: headers.Headers) -> None:
        """A job comes over a link."""
        node = self.node
        stream = upstream.downstream = self.stream(upstream.run, upstream.attempt)
        stream.up, stream.upstream = link, upstream
        try:
            envelope = headers.read(written)
            serves = envelope.target == node.id
            self._check(link, envelope, serves)
            if node in self.jobs.world.black_holes:
                return
            self.beats.handle(lease.Began(stream.key), node.clock())
            self._look_later()
            if serves:
                self.serve(stream, envelope, fenced=True)
            else:
                self._pass_on(stream, envelope)
        except DecodeError as error:
            self.refuse(stream, BadRequest(str(error)))
        except RequestError as error:
            self.refuse(stream, error)

    def _check(self, link: Wire, envelope: Envelope, serves: bool) -> None:
        node = self.node
        if envelope.path[-1] != link.peer(node).id:
            raise BadRequest("the path does not end with the sender")
        if node.id in envelope.path:
            raise NoPeerReachable("a loop")
        if not serves and not node.seen.first((envelope.origin, envelope.id, envelope.attempt), node.clock()):
            raise BadRequest("this attempt has been here before")
        path = (*envelope.path, node.id)
        if len(set(path)) != len(path) or len(path) > HOPS + 1:
            self.jobs.world.watch.broken(f"job {envelope.id} took the path {[other.short for other in path]}")

    def _pass_on(self, stream: Stream, envelope: Envelope) -> None:
        node = self.node
        hop = node.router.next_hop(node.view(), envelope.target, envelope.path, envelope.hops_left)
        link = node.links.get(hop) if hop is not None else None
        if link is None or any(link.parted):
            raise NoPeerReachable("there is no path")
        self.send(stream, link, envelope)

    def serve(self, stream: Stream, envelope: Envelope, *, fenced: bool) -> None:
        """The job is for this node's engine. What comes from others is fenced."""
        model, now = stream.run.job.facts.model, self.node.clock()
        if fenced and not self._fenced(stream, envelope, now):
            return
        gate = self.gates.get(model)
        if gate is None:
            self.refuse(stream, EngineFailed("no engine here"))
            return
        stream.ticket, stream.model = str(stream.key), model
        self.jobs.hops[len(envelope.path)] += 1
        self.waiting[stream.ticket] = stream
        owner, deadline = str(envelope.origin), now + envelope.remaining_s
        self._admit(model, gate, Ask(stream.ticket, deadline, owner=owner, at_once=envelope.at_once))

    def _fenced(self, stream: Stream, envelope: Envelope, now: float) -> bool:
        watch = self.jobs.world.watch
        event = fence.Arrived(stream.key, (bytes(envelope.origin), envelope.id), envelope.attempt)
        for command in self.fence.handle(event, now):
            match command:
                case fence.Stop(ticket):
                    self.jobs.superseded += 1
                    watch.tell(f"n{self.node.number} stops an older attempt of {envelope.id}")
                    self.refuse(self.streams[ticket], Superseded("a newer attempt is here"))
                case fence.Refuse(reason):
                    self.refuse(stream, BadRequest(reason))
                    return False
                case fence.Join():
                    watch.broken(f"attempt {envelope.attempt} of {envelope.id} came to its server twice")
        stream.fenced = True
        return True

    def _admit(self, model: str, gate: Admission, event: Ask | Leave) -> None:
        for command in gate.handle(event, self.node.clock()):
            stream = self.waiting[command.ticket]
            if isinstance(command, Granted):
                self._granted(stream)
            else:
                del self.waiting[command.ticket]
                stream.ticket = ""
                error = Overloaded(command.reason, retry_after_s=command.retry_after_s)
                self.refuse(stream, error, self._load(model))

    def _load(self, model: str) -> Load:
        return dict(zip(self.gates, self.loads(), strict=True))[model]

    def _granted(self, stream: Stream) -> None:
        run, jobs = stream.run, self.jobs
        if stream.attempt in run.granted:
            jobs.world.watch.broken(f"attempt {stream.attempt} of job {run.number} runs twice")
        run.granted.add(stream.attempt)
        trusted = self.node is run.node or self.node.id in run.node.pinned
        if run.job.label is Label.SENSITIVE and not trusted:
            jobs.world.watch.broken(f"the sensitive job {run.number} of n{run.node.number} ran at n{self.node.number}")
        jobs.served[self.node.number] += 1
        first_s, whole_s = jobs.world.service_s(self.node)
        for index in range(CHUNKS):
            self.node.after(first_s + whole_s * index / (CHUNKS - 1), self._progress, stream, index)

    def _progress(self, stream: Stream, index: int) -> None:
        if stream.over or not stream.ticket:
            return
        said = Said(stream.attempt, index)
        if said.last:
            self._leave(stream)
            said = Said(stream.attempt, index, load=self._load(stream.model))
        self.tell(stream, said)

    def _leave(self, stream: Stream) -> None:
        """Give the slot, or the place in the queue, back."""
        ticket, stream.ticket = stream.ticket, ""
        if ticket and self.waiting.pop(ticket, None) is not None:
            self._admit(stream.model, self.gates[stream.model], Leave(ticket))

    # Back to the origin.

    def refuse(self, stream: Stream, error: RequestError, load: Load | None = None) -> None:
        """It ends here with an error."""
        self._leave(stream)
        self.tell(stream, Said(stream.attempt, error=error, load=load))

    def tell(self, stream: Stream, said: Said) -> None:
        """Hand an answer to the hop before; at the origin, to the run."""
        if stream.over:
            return
        if said.last:
            self.close(stream, answered=True)
        stream.said = True
        if stream.upstream is None:
            self.jobs.answer(stream, said)
        else:
            self._over_link(stream, said)

    def _over_link(self, stream: Stream, said: Said) -> None:
        if stream.up is not None and not stream.up.closed[stream.up.end(self.node)]:
            self.jobs.world.network.send(stream.up, self.node, self.jobs.told, (stream.upstream, said))

    def hear(self, link: Wire, stream: Stream, said: Said) -> None:
        """The hop behind said something."""
        if stream.over or stream.down is not link:
            return
        stream.heard = True
        if said.error is not None or said.index >= 0:
            self.tell(stream, said)

    # Leases and signs of life.

    def _look_later(self) -> None:
        if not self.looks:
            self.looks = True
            self.node.after(lease.LOOK_S, self._look)

    def _look(self) -> None:
        now, self.looks = self.node.clock(), False
        for stream in self.streams.values():
            if stream.heard:
                stream.heard = False
                self.leases.handle(lease.Heard(stream.key), now)
                self.beats.handle(lease.Alive(stream.key), now)
            if stream.said:
                stream.said = False
                self.beats.handle(lease.Said(stream.key), now)
        for expired in self.leases.handle(lease.Look(), now):
            stream = self.streams[expired.key]
            if isinstance(expired, lease.Quiet):
                if stream.upstream is None:
                    self.jobs.fell_quiet(stream)
                continue
            self.jobs.expired += 1
            self._cancel_behind(stream)
            self.refuse(stream, LeaseExpired("nothing was heard"))
        for command in self.beats.handle(lease.Look(), now):
            stream = self.streams[command.key]
            self._over_link(stream, Said(stream.attempt))
        if len(self.leases) or len(self.beats):
            self._look_later()

    # Leaving.

    def cut(self, link: Wire) -> None:
        """A link ended: what came over it is cancelled, what went over it has failed."""
        for stream in [one for one in self.streams.values() if link in (one.up, one.down)]:
            if stream.up is link:
                self.cancel(stream)
            else:
                self.refuse(stream, PeerFailed("the link was lost"))

    def cancel(self, stream: Stream) -> None:
        """Nobody wants the answer: from here to the server all is given back."""
        if not stream.over:
            self._leave(stream)
            self.close(stream, answered=False)
            self._cancel_behind(stream)

    def _cancel_behind(self, stream: Stream) -> None:
        if stream.down is not None and not stream.down.closed[stream.down.end(self.node)]:
            self.jobs.world.network.send(stream.down, self.node, self.jobs.cancelled, stream)

    def close(self, stream: Stream, *, answered: bool) -> None:
        """It is over here. `answered`: what became of it was told."""
        stream.over = True
        now = self.node.clock()
        self.streams.pop(stream.key, None)
        self.leases.handle(lease.Gave(stream.key), now)
        self.beats.handle(lease.Done(stream.key), now)
        if stream.fenced:
            self.fence.handle(fence.Left(stream.key, answered), now)

    def held(self) -> str:
        """What is still held here; "" for nothing."""
        busy = {model: gate.snapshot(self.node.clock()) for model, gate in self.gates.items()}
        slots = [f"{load.busy} slots of {model}" for model, load in busy.items() if load.busy or load.queued]
        more = {"leases": len(self.leases), "jobs to tell of": len(self.beats), "streams": len(self.streams)}
        return ", ".join([*slots, *(f"{count} {what}" for what, count in more.items() if count)])
