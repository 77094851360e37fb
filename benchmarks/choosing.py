"""What one decision costs: a plan for a request among 10, 100 and 1,000 candidates, all measured, as time goes on.

In this process, no sockets. Runs as a program too, with whatever meshnode the path finds, so that two can be compared
(life.py). Counterpart: meshnode.routing. Not for requests as a whole (phases.py).
"""

from __future__ import annotations

import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.model.advert import Advert, ModelOffer, Neighbour
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job
from meshnode.model.view import View
from meshnode.routing import Attempt, LocalState, Router

CANDIDATES = (10, 100, 1000)
MUST_US = 1000
"""One millisecond, among a thousand."""

BATCH = 50
BATCHES, QUICK_BATCHES = 20, 3

STEP_S = 0.02
"""Between two decisions: what was measured fades meanwhile."""

MODEL = "llama"
_ME = NodeId(bytes(32))


@dataclass(frozen=True, slots=True)
class Choosing:
    """Microseconds of the best batch, by what was chosen for and the number of candidates."""

    plan_us: dict[str, dict[int, float]]


def measure(*, quick: bool) -> Choosing:
    """Time every case; the best of the batches, since what else runs only makes them worse."""
    batches = QUICK_BATCHES if quick else BATCHES
    views = {many: mesh(many) for many in CANDIDATES}
    found = {
        name: {many: _best_us(_decision(view, job), batches) for many, view in views.items()}
        for name, job in cases().items()
    }
    changed = {many: _best_us(_after_a_change(view), batches) for many, view in views.items()}
    return Choosing({**found, "the first after an advert changed": changed})


def choosing_table(found: Choosing) -> str:
    """Markdown."""
    rows = [
        f"| {name} | {' | '.join(f'{us[many]:,.0f} µs' for many in CANDIDATES)} | <= {MUST_US} µs |"
        f" {'pass' if us[CANDIDATES[-1]] <= MUST_US else 'miss'} |"
        for name, us in found.plan_us.items()
    ]
    head = " | ".join(f"among {many:,}" for many in CANDIDATES)
    return "\n".join([f"| choosing for | {head} | must | |", "|---|" + "---:|" * len(CANDIDATES) + "---|---|", *rows])


def as_json(found: Choosing) -> dict[str, Any]:
    """The figures by name, in microseconds."""
    return {"plan_us": {name: {str(many): us for many, us in row.items()} for name, row in found.plan_us.items()}}


def mesh(candidates: int) -> View:
    """This node, which offers nothing, linked to so many that offer one model."""
    nodes = [NodeId(Random(number).randbytes(32)) for number in range(candidates)]
    offer = ModelOffer(name=MODEL, context=32_768, slots=4, features=("chat", "tools"), quant="Q4_K_M")
    near = Neighbour(bytes(_ME), 5)
    adverts = {node: _advert(node, models=(offer,), neighbours=(near,)) for node in nodes}
    own = _advert(_ME, neighbours=tuple(Neighbour(bytes(node), 5) for node in nodes))
    return View(_ME, adverts | {_ME: own}, dict.fromkeys(nodes, 0.005), 1)


def cases() -> dict[str, Job]:
    """Requests by what they ask. What is kept is kept because `_decision` has it answered once."""
    job = Job(id="j", route="/v1/chat/completions", body=b"{}", facts=Facts(MODEL, prompt_tokens=1000), origin=_ME,
              deadline=1e9)  # fmt: skip
    new, kept = (replace(job, facts=replace(job.facts, session=session)) for session in ("new", KEPT))
    return {"a request": job, "a new conversation": new, "a kept conversation": kept}


KEPT = "kept"


def _advert(node: NodeId, **more: Any) -> Advert:
    return Advert(id=bytes(node), mesh=bytes(32), incarnation=1, sequence=1, lifetime_s=180, name=node.short, **more)


def _decision(view: View, job: Job) -> Callable[[], object]:
    router, rng, local, clock = _measured(view), Random(1), LocalState(), itertools.count()
    if job.facts.session == KEPT:
        attempt = router.consider(job, view, local, rng, 100.0).attempts[0]
        router.first_token(router.started(attempt, 1000, 100.0), 100.1)
    return lambda: router.consider(job, view, local, rng, 100.0 + next(clock) * STEP_S)


def _after_a_change(view: View) -> Callable[[], object]:
    router, rng, local, clock = _measured(view), Random(1), LocalState(), itertools.count(1)
    job, nodes, now = cases()["a request"], list(view.links), [view]

    def decide() -> object:
        count = next(clock)
        node, adverts = nodes[count % len(nodes)], dict(now[0].adverts)
        offer = msgspec.structs.replace(adverts[node].models[0], loaded=count // len(nodes) % 2 == 1)
        adverts[node] = msgspec.structs.replace(adverts[node], models=(offer,))
        now[0] = replace(view, adverts=adverts, version=1 + count)
        return router.consider(job, now[0], local, rng, 100.0 + count * STEP_S)

    return decide


def _measured(view: View) -> Router:
    router = Router(DispatchSection(), RoutingSection())
    job = cases()["a request"]
    score = router.consider(job, view, LocalState(), Random(1), 0.0).attempts[0].score
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


if __name__ == "__main__":
    json.dump(as_json(measure(quick="--quick" in sys.argv)), sys.stdout)
