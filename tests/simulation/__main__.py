"""`python -m tests.simulation`: one seed at length, or many over all cores. Exits with 1 when an invariant broke.

`--seeds 300 --nodes 50 --large`, `--seed 7 --nodes 1000 --faults none`, or what a failure printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator

from tests.simulation import faults, report
from tests.simulation.run import STILL_S, Outcome, Setup, run, shrink

LARGE_FAULTS = (
    "change@2:7;loss@3+5=0.2;poweroff@3:20;change@4:11;crash@4+3:30;partition@5+4:40.41.42;equivocate@5:50;freeze@4+6:60;"
    "change@11:12"
)
"""Some of everything in a mesh of 1,000, within a minute or two."""

LARGE = Setup(1, 1000, tuple(faults.read(LARGE_FAULTS)), 11.0, swap_s=STILL_S)
"""Links are not exchanged in it: every exchange is four adverts, each of which everybody is told."""

MOST_SHOWN = 3
"""Failures that are made smaller and shown; the others are named."""


def main() -> int:
    """Read the command line and do what it says."""
    asked = _arguments().parse_args()
    began = time.monotonic()
    alone = [LARGE] if asked.large else [_setup(asked, asked.seed)] if asked.seed is not None else []
    many = [_setup(asked, seed) for seed in _seeds(asked.seeds)] if asked.seed is None else []
    # The longest first: the others fill what cores are left meanwhile.
    outcomes = list(over([*alone, *many]))
    for outcome in outcomes[: len(alone)]:
        print(report.one(outcome))
    if many:
        print(report.many(outcomes[len(alone) :], time.monotonic() - began))
    broken = [outcome for outcome in outcomes if outcome.failure]
    for outcome in broken[:MOST_SHOWN]:
        smaller = outcome if asked.whole or outcome.setup == LARGE else smallest(outcome.setup)
        print(report.failed(smaller if smaller.failure else outcome))
    for outcome in broken[MOST_SHOWN:]:
        print(f"FAILED seed {outcome.setup.seed}: {outcome.failure}")
    return 1 if broken else 0


def over(setups: Iterable[Setup], processes: int | None = None) -> Iterator[Outcome]:
    """Run them over all cores, in order."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        yield from pool.imap(run, setups)


def smallest(setup: Setup) -> Outcome:
    """The shortest run that fails like this one, as far as it was looked for."""
    return next(over([shrink(setup, lambda tried: bool(next(over([tried], 1)).failure))], 1))


def _seeds(text: str) -> range:
    first, _, last = text.rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


def _setup(asked: argparse.Namespace, seed: int) -> Setup:
    scenario = tuple(faults.read(asked.faults)) if asked.faults is not None else None
    return Setup(
        seed,
        asked.nodes,
        scenario,
        asked.until,
        asked.jobs,
        refresh_s=asked.refresh,
        swap_s=asked.swap,
        steady=asked.steady,
        latency_s=asked.latency,
    )


def _arguments() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {kind:11} {what}" for kind, what in faults.KINDS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.simulation",
        description=__doc__,
        epilog=f"faults: kind@at+for:nodes=value, joined by ';'\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="one run, at length")
    parser.add_argument("--seeds", default="300", help="how many, or from-to")
    parser.add_argument("--large", action="store_true", help="first one run of 1,000 nodes")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--faults", help="a scenario, or none; left out: the seed's own")
    parser.add_argument("--until", type=float, help="faults and jobs end at this second")
    parser.add_argument("--jobs", type=float, default=2.0, help="jobs per second, over all nodes")
    parser.add_argument("--refresh", type=float, help="seconds between two adverts of a node, instead of 60")
    parser.add_argument("--latency", type=float, help="one-way seconds between any two nodes")
    parser.add_argument("--steady", action="store_true", help="renewals spread over time from the start")
    parser.add_argument("--swap", type=float, help="seconds between two exchanges of a link, instead of the default")
    parser.add_argument("--whole", action="store_true", help="do not look for a shorter scenario that fails too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
