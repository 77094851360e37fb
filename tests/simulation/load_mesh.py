"""Entry nodes choose among serving nodes with the real routing, pursuit, budgets and admission, in virtual time.

No mesh is gossiped and no relay asked: everybody is linked to everybody, and hears the others' load every 2 s.
Counterparts: load.py (what it is run for), load_servers.py (who serves), traffic.py (what is asked, and what an ideal
makes of it), jobs.py (the same machines in a mesh with faults).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.dispatch.course import Course
from meshnode.dispatch.pursuit import Pursuit, Rules
from meshnode.dispatch.pursuit_events import Answered, Begin, Drop, Event, Failed, Fault, Lose, Try, Win, Woke
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job
from meshnode.model.view import View
from meshnode.routing import Flight, LocalState, Router
from meshnode.routing.budget import Budgets
from meshnode.routing.load import busy_share
from meshnode.routing.measure import units_of
from meshnode.routing.usual import Usual
from meshnode.slots import Load
from tests.simulation.load_servers import CLAIMED_SLOTS, Server, Serving
from tests.simulation.loop import Loop
from tests.simulation.stand_ins import MESH, node_id
from tests.simulation.traffic import Demand, Request, requests

DISPATCH = DispatchSection()
ROUTING = RoutingSection()
MODEL = "llama"


@dataclass(slots=True, eq=False)
class Try_:
    """One attempt of a request at a server."""

    chase: Chase
    order: Try
    flight: Flight
    server: Server
    ticket: str
    over: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """A node that clients ask: what dispatch.dispatcher keeps. Where it serves too, `server` is its own engine."""

    id: NodeId
    view: View
    rng: Random
    server: Server | None = None
    router: Router = field(default_factory=lambda: Router(DISPATCH, ROUTING))
    usual: Usual = field(default_factory=lambda: Usual(DISPATCH.hedge_quantile))
    budgets: Budgets = field(default_factory=lambda: Budgets.of(DISPATCH))

    def local(self, now: float) -> LocalState:
        """Its own engine's load, which it knows exactly."""
        return LocalState({MODEL: self.server.admission.snapshot(now)}) if self.server is not None else LocalState()


@dataclass(slots=True, eq=False)
class Chase:
    """One request in hand, as dispatch.chase has it."""

    entry: Entry
    request: Request
    pursuit: Pursuit
    tries: dict[int, Try_] = field(default_factory=dict)
    wakeup: float | None = None
    won: int = 0
    first_s: float | None = None
    whole_s: float | None = None
    error: str = ""


@dataclass
class Found:
    """`first_s` and `whole_s` as clients saw them, infinite where there was no answer; `touched`: requests of which a
    server had an attempt, after the time in which it is got to know."""

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    requests: int = 0
    touched: Counter[int] = field(default_factory=Counter)
    attempts: int = 0
    hedges: int = 0
    refusals: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Mesh:
    """Run once."""

    def __init__(self, demand: Demand) -> None:
        self.demand, self.loop, self.found = demand, Loop(), Found()
        self.rng = Random(f"load {demand.seed}")
        self.serving = Serving(demand, self.loop, self._told)
        self.servers = self.serving.servers
        self.entries = [self._entry(number) for number in range(demand.entries)]
        self.tickets = 0

    def run(self) -> Found:
        """All that is asked, to the end of the last answer."""
        for request in requests(self.demand):
            self.loop.at(request.at, self._ask, request)
        for server in self.servers:
            self.loop.at(self.rng.uniform(0.0, self.demand.told_s), self._tell, server)
        self.loop.run(self.demand.seconds + self.demand.patience_s + 1.0)
        return self.found

    def _entry(self, number: int) -> Entry:
        server = self.servers[-1 - number] if self.demand.mixed else None
        me = server.id if server is not None else node_id(1000 + number)
        ids = {one.id: None for one in self.servers} | {me: None}
        near = tuple(Neighbour(bytes(other), 10) for other in ids)
        adverts = {one.id: self._advert(one, near) for one in self.servers}
        adverts.setdefault(me, Advert(bytes(me), MESH, 1, 1, 180, neighbours=near))
        view = View(me, adverts, dict.fromkeys(set(ids) - {me}, self.demand.round_trip_s), 1)
        return Entry(me, view, Random(f"entry {self.demand.seed} {number}"), server)

    def _advert(self, server: Server, near: tuple[Neighbour, ...]) -> Advert:
        entries = tuple(Neighbour(bytes(node_id(1000 + number)), 10) for number in range(self.demand.entries))
        slots, price = (CLAIMED_SLOTS, 0) if server.lie else (self.demand.slots, 1_000_000)
        # A liar is quicker than anybody by its own word; the others leave that to be found out.
        speed = 1 if server.lie else 0
        offers = (ModelOffer(name=MODEL, context=32_768, slots=slots, prefill_ms=speed, decode_us=speed),)
        neighbours = (*(one for one in near if one.id != server.id), *entries)
        return Advert(
            bytes(server.id), MESH, 1, 1, 180, neighbours=neighbours, models=offers, price_micro_per_mtok=price
        )

    def _tell(self, server: Server) -> None:
        """Load rides on probes between neighbours."""
        load = server.load(self.loop.now)
        for entry in self.entries:
            if entry.server is not server:
                entry.router.heard(entry.view, server.id, load, self.loop.now)
        self.loop.after(self.demand.told_s, self._tell, server)

    def _ask(self, request: Request) -> None:
        entry, now = self.rng.choice(self.entries), self.loop.now
        facts = Facts(MODEL, stream=True, prompt_tokens=request.prompt_tokens, max_tokens=request.max_tokens)
        job = Job("j", "/v1/chat/completions", b"", facts, entry.id, now + self.demand.patience_s, hops_left=4)
        plan = entry.router.plan(job, entry.view, entry.local(now), entry.rng, now)
        course = Course(plan, 4, 1 + DISPATCH.retries, entry.router, lambda: entry.view, _linked)
        units = units_of(request.prompt_tokens)
        may = request.prompt_tokens <= DISPATCH.hedge_prompt_tokens and len(plan.attempts) > 1
        rules = Rules(
            1,
            lambda attempt: entry.usual.late_s(attempt.node, attempt.model, units) if may else None,
            lambda: busy_share(plan, entry.view, entry.router.known.measurements, entry.local(now), self.loop.now),
            DISPATCH.hedge_load,
            DISPATCH.backoff_s,
            lambda attempt: attempt.node != entry.id,
        )
        chase = Chase(entry, request, Pursuit(course, rules, entry.budgets, entry.rng))
        self.found.requests += request.at >= self.demand.warm_s
        self.loop.after(self.demand.patience_s, self._too_late, chase)
        self._pursue(chase, Begin())

    def _pursue(self, chase: Chase, event: Event) -> None:
        for command in chase.pursuit.handle(event, self.loop.now):
            match command:
                case Try():
                    self._try(chase, command)
                case Drop(number):
                    self._let_go(chase.tries[number])
                case Win(number):
                    self._won(chase, chase.tries[number])
                case Lose(why):
                    self._over(chase, why.name)
        wakeup = chase.pursuit.next_wakeup() if not chase.pursuit.ended else None
        if wakeup is not None and wakeup != chase.wakeup:
            chase.wakeup = wakeup
            self.loop.at(wakeup, self._woke, chase, wakeup)

    def _woke(self, chase: Chase, wakeup: float) -> None:
        if chase.pursuit.next_wakeup() == wakeup:
            self._pursue(chase, Woke())

    def _try(self, chase: Chase, order: Try) -> None:
        entry, server = chase.entry, self.serving.by_id[order.attempt.node]
        flight = entry.router.started(order.attempt, chase.request.prompt_tokens, self.loop.now, at_once=order.at_once)
        self.tickets += 1
        one = chase.tries[order.number] = Try_(chase, order, flight, server, str(self.tickets))
        self._count(chase, order, server)
        self.serving.over_link(one, self.serving.arrive, one)

    def _count(self, chase: Chase, order: Try, server: Server) -> None:
        if chase.request.at < self.demand.warm_s:
            return
        self.found.attempts += 1
        self.found.hedges += order.role.value == "hedge"
        earlier = [one.server for number, one in chase.tries.items() if number != order.number]
        self.found.touched[server.number] += server not in earlier

    def _won(self, chase: Chase, one: Try_) -> None:
        now = self.loop.now
        chase.won, chase.first_s = one.order.number, now - chase.request.at
        chase.entry.router.first_token(one.flight, now)
        chase.entry.usual.add(one.flight, now)

    def _let_go(self, one: Try_) -> None:
        one.chase.entry.router.cancelled(one.flight, self.loop.now)
        self.serving.over_link(one, self.serving.cancel, one)

    def _too_late(self, chase: Chase) -> None:
        if chase.whole_s is not None or chase.error:
            return
        for one in chase.tries.values():
            if not one.flight.ended:
                chase.entry.router.failed(one.flight, self.loop.now)
                self.serving.over_link(one, self.serving.cancel, one)
        self._over(chase, "DEADLINE")

    def _over(self, chase: Chase, error: str) -> None:
        """The request ended, well where there is no error."""
        if chase.whole_s is not None or chase.error:
            raise AssertionError("a request ended twice")
        chase.error, chase.whole_s = error, float("inf") if error else self.loop.now - chase.request.at
        if chase.request.at >= self.demand.warm_s:
            self.found.first_s.append(float("inf") if error or chase.first_s is None else chase.first_s)
            self.found.whole_s.append(chase.whole_s)
            if error:
                self.found.errors[error] += 1

    def _told(self, one: Try_, event: Event | str, load: Load | None, retry_after_s: float = 0.0) -> None:
        """What a server said of an attempt has arrived, with its load where it says that."""
        chase, entry, now = one.chase, one.chase.entry, self.loop.now
        if one.flight.ended:
            return
        if load is not None and one.server is not entry.server:
            entry.router.reported(one.server.id, MODEL, load, now)
        if event == "done":
            entry.router.finished(one.flight, chase.request.tokens, now)
            self._over(chase, "")
        elif event == "cut":
            entry.router.failed(one.flight, now)
            self._over(chase, "CUT")
        elif isinstance(event, Failed):
            if event.fault is Fault.FULL:
                self.found.refusals += 1
                entry.router.refused(one.flight, retry_after_s, now)
            else:
                entry.router.failed(one.flight, now)
            self._pursue(chase, event)
        elif isinstance(event, Answered):
            self._pursue(chase, event)


def _linked(_: NodeId) -> None:
    """There are no relays, so nobody looks at a link."""


def run(demand: Demand) -> Found:
    """One run."""
    return Mesh(demand).run()
