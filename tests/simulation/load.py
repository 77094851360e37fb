"""`make load`: what clients wait at 80 % load beside an ideal shared queue, and what share of requests liars get.

Exits with 1 where a figure is missed: p99 of the whole answer at most 1.3 times the ideal, a liar's share of requests
at most 5 % after 60 s. Times to the first token are told beside it, and held to nothing. Counterpart: load_mesh.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from dataclasses import dataclass, replace

from tests.simulation.load_mesh import run
from tests.simulation.load_servers import LIES
from tests.simulation.traffic import Demand, ideal, quantile

MOST_OF_IDEAL = 1.3
MOST_OF_LIAR = 0.05

DEMANDS = {
    "12 servers of 4 slots, 6 entries": Demand(seconds=1800),
    "12 servers of 4 slots, each an entry": Demand(seconds=1800, entries=12, mixed=True),
    "12 servers of 1 slot, 6 entries": Demand(slots=1, seconds=7200),
    "50 servers of 4 slots, 12 entries": Demand(servers=50, entries=12, seconds=600),
    "50 servers of 4 slots, each an entry": Demand(servers=50, entries=50, mixed=True, seconds=600),
}
LIED_TO = {"12": Demand(seconds=600), "50": Demand(servers=50, entries=12, seconds=300)}


@dataclass(frozen=True)
class Row:
    """One run in a line, and whether it keeps to its figure."""

    words: str
    kept: bool


def compared(name: str, demand: Demand) -> Row:
    """A run beside the ideal."""
    began = time.process_time()
    found = run(demand)
    cpu_s = time.process_time() - began
    first_s, whole_s = ideal(demand)
    times = quantile(found.whole_s, 0.99) / quantile(whole_s, 0.99)
    words = (
        f"{name}, seed {demand.seed}: {found.requests} requests\n"
        f"    first token  p50 {_beside(found.first_s, first_s, 0.5)}   p99 {_beside(found.first_s, first_s, 0.99)}\n"
        f"    whole answer p50 {_beside(found.whole_s, whole_s, 0.5)}   p99 {_beside(found.whole_s, whole_s, 0.99)}\n"
        f"    {found.attempts / found.requests:.2f} attempts and {found.hedges / found.requests:.3f} hedges a request, "
        f"errors {dict(found.errors) or 'none'}, {cpu_s:.1f} s of CPU"
    )
    return Row(words, times <= MOST_OF_IDEAL)


def _beside(found_s: list[float], ideal_s: list[float], share: float) -> str:
    mine_s, best_s = quantile(found_s, share), quantile(ideal_s, share)
    return f"{mine_s:.2f} s, ideal {best_s:.2f} ({mine_s / best_s:.2f} x)"


def lied(name: str, demand: Demand) -> Row:
    """What a liar gets."""
    found = run(demand)
    share = found.touched[0] / found.requests
    others = (found.touched.total() - found.touched[0]) / (demand.servers - 1) / found.requests
    words = (
        f"{name} servers, one that {demand.lie:8} got {100 * share:4.1f} % of requests, another {100 * others:.1f} %"
    )
    return Row(f"{words}; errors {dict(found.errors) or 'none'}", share <= MOST_OF_LIAR)


def main() -> int:
    """Run all over all cores and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.load", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    seeds = range(1, 1 + parser.parse_args().seeds)
    with multiprocessing.get_context("spawn").Pool() as pool:
        beside = [(name, replace(one, seed=seed)) for name, one in DEMANDS.items() for seed in seeds]
        liars = [(n, replace(one, lie=lie, seed=seed)) for n, one in LIED_TO.items() for lie in LIES for seed in seeds]
        rows = [*pool.starmap(compared, beside, 1), *pool.starmap(lied, liars, 1)]
    for row in rows:
        print(row.words + ("" if row.kept else "   MISSED"))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
