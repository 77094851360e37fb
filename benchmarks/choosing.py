"""What one decision costs: a plan for one request among a thousand candidates, all of them measured.

In this process, no sockets. Counterpart: meshnode.routing. Not for requests as a whole (phases.py).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job
from meshnode.model.view import View
from meshnode.routing import Attempt, LocalState, Router, Score, Terms

CANDIDATES = 1000
MUST_US = 1000
"""One millisecond."""

BATCH = 50
BATCHES, QUICK_BATCHES = 20, 3

MODEL = "llama"
_ME = NodeId(bytes(32))


@dataclass(frozen=True, slots=True)
class Choosing:
    """Microseconds of the best batch, by what was chosen for."""

    plan_us: dict[str, float]


def measure(*, quick: bool) -> Choosing:
    """Time every case; the best of the batches, since what else runs only makes them worse."""
    view, jobs = mesh(CANDIDATES), cases()
    batches = QUICK_BATCHES if quick else BATCHES
    return Choosing({name: _best_us(_decision(view, job), batches) for name, job in jobs.items()})


def choosing_table(found: Choosing) -> str:
    """Markdown."""
    rows = [
        f"| {name} | {us:,.0f} µs | <= {MUST_US} µs | {'pass' if us <= MUST_US else 'miss'} |"
        for name, us in found.plan_us.items()
    ]
    return "\n".join([f"| choosing among {CANDIDATES:,} | measured | must | |", "|---|---:|---|---|", *rows])


def as_json(found: Choosing) -> dict[str, Any]:
    """The figures by name, in microseconds."""
    return {"candidates": CANDIDATES, "plan_us": found.plan_us}


def mesh(candidates: int) -> View:
    """This node, which offers nothing, linked to so many that offer one model."""
    nodes = [NodeId(Random(number).randbytes(32)) for number in range(candidates)]
    offer = ModelOffer(name=MODEL, context=32_768, slots=4, features=("chat", "tools"), quant="Q4_K_M")
    near = Neighbour(bytes(_ME), 5)
    adverts = {node: _advert(node, models=(offer,), neighbours=(near,)) for node in nodes}
    own = _advert(_ME, neighbours=tuple(Neighbour(bytes(node), 5) for node in nodes))
    return View(_ME, adverts | {_ME: own}, dict.fromkeys(nodes, 0.005), 1)


def cases() -> dict[str, Job]:
    """Requests by what they ask."""
    job = Job(id="j", route="/v1/chat/completions", body=b"{}", facts=Facts(MODEL, prompt_tokens=1000), origin=_ME,
              deadline=1e9)  # fmt: skip
    return {"a request": job, "one of a conversation": replace(job, facts=replace(job.facts, session="s"))}


def _advert(node: NodeId, **more: Any) -> Advert:
    return Advert(id=bytes(node), mesh=bytes(32), incarnation=1, sequence=1, lifetime_s=180, name=node.short, **more)


def _decision(view: View, job: Job) -> Callable[[], object]:
    router, rng, local = _measured(view), Random(1), LocalState()
    return lambda: router.consider(job, view, local, rng, 100.0)


def _measured(view: View) -> Router:
    router = Router(DispatchSection(), RoutingSection())
    score = Score(1.0, 1.0, Terms(*[0.0] * len(Terms._fields)))
    for place, node in enumerate(view.links):
        flight = router.started(Attempt(node, MODEL, (_ME, node), score), 1000, 0.0)
        router.first_token(flight, 1.0 + place / 1000)
        router.finished(flight, 100, 5.0)
    return router


def _best_us(decide: Callable[[], object], batches: int) -> float:
    decide()
    best_s = float("inf")
    gc.collect()
    for _ in range(batches):
        began = time.process_time()
        for _ in range(BATCH):
            decide()
        best_s = min(best_s, (time.process_time() - began) / BATCH)
    return best_s * 1e6
