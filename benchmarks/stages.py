"""Where the CPU time of a local request goes, stage by stage: read, chosen, admitted, pursued, written down, answered.

In this process, an engine that answers at once and no sockets: what they cost is measured with real nodes (life.py).
Not for choosing among many (choosing.py).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import trio

from meshnode.access import Caller
from meshnode.config.dispatch import DispatchSection
from meshnode.config.engine import EngineSection
from meshnode.config.front import FrontSection
from meshnode.config.routing import RoutingSection
from meshnode.config.sharing import SharingSection
from meshnode.dispatch.coalesce import Coalescer
from meshnode.dispatch.course import Course
from meshnode.dispatch.dispatcher import Dispatcher, Surroundings
from meshnode.dispatch.journal import Journal
from meshnode.dispatch.leases import Leases
from meshnode.dispatch.local import Local
from meshnode.dispatch.pursuit import Pursuit, Rules
from meshnode.dispatch.pursuit_events import Answered, Begin
from meshnode.dispatch.share import Share, Standing
from meshnode.dispatch.watch import Watch
from meshnode.front.asgi import InferenceLane
from meshnode.front.doors import Doors
from meshnode.front.handlers import Incoming, make_job
from meshnode.front.keyring import Keyring
from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.answer import WholeAnswer
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.view import View
from meshnode.observe.metrics import Metrics
from meshnode.routing import Plan, Router
from meshnode.routing.budget import Budgets

MODEL = "bench"
ROUTE = "/v1/chat/completions"
HEADERS = {"host": "127.0.0.1", "content-type": "application/json", "authorization": "Bearer bench"}
BODY = b'{"model": "bench", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
SAID = b'{"choices": [{"message": {"role": "assistant", "content": "Rayleigh."}, "finish_reason": "stop"}]}'

BATCH = 200
BATCHES, QUICK_BATCHES = 15, 2

_ME = NodeId(bytes(32))


@dataclass(frozen=True, slots=True)
class Stages:
    """Microseconds of the best batch by stage; the last is the whole, in which the others are."""

    us: dict[str, float]


class _Engine:
    """Answers at once."""

    name = MODEL
    slots = 1024
    running = 0
    resident: frozenset[str] | None = None
    offers = (ModelOffer(name=MODEL, context=8192, slots=1024, features=("chat",)),)

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> WholeAnswer:
        return WholeAnswer(200, {"content-type": "application/json"}, SAID)


class _Node:
    """As much of a node as a local request meets."""

    def __init__(self) -> None:
        engine = _Engine()
        advert = Advert(id=bytes(_ME), mesh=bytes(32), incarnation=1, sequence=1, lifetime_s=60, name="bench",
                        models=engine.offers)  # fmt: skip
        self.view = View(_ME, {_ME: advert}, {}, 1)
        self.router = Router(DispatchSection(), RoutingSection())
        share = Share(SharingSection(), Standing(_ME, lambda: "", lambda _: ""))
        self.local = Local(EngineSection(), lambda *_: engine, lambda: (engine,), share)
        around = Surroundings(
            me=_ME, relays=False, view=lambda: self.view, link=lambda _: None, router=self.router, local=self.local,
            metrics=Metrics(), may=lambda *_: True, tunnels=cast(Any, None), relay_class="sealed",
            asked=lambda _: None, leases=Leases(), connect_s=2.0,
        )  # fmt: skip
        self.dispatcher = Dispatcher(around, DispatchSection(), Watch(), Random(1))
        self.sharing = Coalescer(self.dispatcher, DispatchSection())
        self.doors = cast(Doors, _Doors(self.sharing.dispatch))
        self.rng = Random(1)

    def job(self) -> Job:
        return make_job(Incoming("POST", ROUTE, HEADERS, BODY, Caller()), "req_bench", self.doors, FrontSection())

    def plan(self, job: Job) -> Plan:
        state = self.local.state()
        return self.router.consider(job, self.view, state, self.rng, trio.current_time())


@dataclass(frozen=True, slots=True)
class _Doors:
    dispatch: Callable[[Job], Awaitable[Any]]
    me: NodeId = _ME
    session_secret: bytes = bytes(32)
    keys: Keyring = field(default_factory=Keyring)


def measure(*, quick: bool) -> Stages:
    """Every stage, the best of some batches."""
    return trio.run(_measure, QUICK_BATCHES if quick else BATCHES)


async def _measure(batches: int) -> Stages:
    node = _Node()
    job = node.job()
    plan = node.plan(job)
    lane = InferenceLane(cast(Any, None), node.doors, FrontSection())
    raw = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def read() -> None:
        node.job()

    async def choose() -> None:
        node.plan(job)

    async def admit() -> None:
        await (await node.local.serve(job)).aclose()

    async def whole_dispatch() -> None:
        answer = await node.sharing.dispatch(job)
        async for _ in answer:
            pass
        await answer.aclose()

    async def whole() -> None:
        scope = {"type": "http", "method": "POST", "path": ROUTE, "headers": raw, "extensions": {}}
        await lane(scope, _received, _sent)

    stages: dict[str, Callable[[], Awaitable[None]]] = {
        "front: read the request": read,
        "plan": choose,
        "admit, and the local door": admit,
        "dispatch: decide whom to ask": lambda: _pursue(node, plan),
        "journal": lambda: _write_down(job, plan),
        "all that dispatch does": whole_dispatch,
        "the whole request": whole,
    }
    async with trio.open_nursery() as nursery:
        await nursery.start(node.sharing.run)
        found = {name: await _best_us(stage, batches) for name, stage in stages.items()}
        nursery.cancel_scope.cancel()
    return Stages(found)


async def _pursue(node: _Node, plan: Plan) -> None:
    course = Course(plan, 4, 3, node.router, lambda: node.view, lambda _: None)
    rules = Rules(1, lambda _: None, lambda: 0.0, 0.7, 0.1)
    pursuit = Pursuit(course, rules, _BUDGETS, node.rng)
    pursuit.handle(Begin(), 1.0)
    pursuit.handle(Answered(1), 1.0)


async def _write_down(job: Job, plan: Plan) -> None:
    entry = _JOURNAL.begin(job, 1.0)
    entry.planned(plan, 1.0)
    _JOURNAL.keep(entry)
    for event in ("asked", "answered", "first token"):
        entry.note(1.0, event, 1, _ME)
    entry.ended(1.0, "ok", 1)


_BUDGETS, _JOURNAL = Budgets.of(DispatchSection()), Journal(1000, 16 << 20)


async def _received() -> dict[str, Any]:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def _sent(_: Any) -> None:
    return None


async def _best_us(stage: Callable[[], Awaitable[None]], batches: int) -> float:
    best_s = float("inf")
    await stage()
    gc.collect()
    for _ in range(batches):
        began = time.process_time()
        for _ in range(BATCH):
            await stage()
        best_s = min(best_s, (time.process_time() - began) / BATCH)
    return best_s * 1e6


def stages_table(found: Stages) -> str:
    """Markdown."""
    rows = [f"| {name} | {us:,.1f} µs |" for name, us in found.us.items()]
    return "\n".join(["| a local request, no sockets | CPU |", "|---|---:|", *rows])
