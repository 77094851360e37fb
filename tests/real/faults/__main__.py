"""`python -m tests.real.faults --seed 5 --faults 60 --requests 2000`: one run, and its report. Exits with 1 when a
promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import trio

from tests.real.faults.judge import SUCCESS
from tests.real.faults.plan import KINDS, draw
from tests.real.faults.report import report
from tests.real.faults.run import run


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser("python -m tests.real.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only faults of these kinds")
    asked = parser.parse_args()
    plan = draw(asked.seed, asked.nodes, asked.faults, asked.requests, asked.kinds)
    with tempfile.TemporaryDirectory() as folder:
        result = trio.run(partial(run, plan, Path(folder)))
    print(report(result))
    good = result.verdict.success >= SUCCESS and not (result.verdict.broken or result.held or result.left)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
