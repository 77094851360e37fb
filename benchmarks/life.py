"""The life of a request in CPU time: choosing among many, a local request by stage, and real nodes beside those of
another checkout.

`python -m benchmarks.life [--against DIR]`. Where machines are shared only ratios of what ran in turn are to be
trusted; that is what `--against` gives. Part of `make bench`, but for that. Not for rates and latencies (__main__).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import choosing, gauge, phases, stages, targets, ways
from benchmarks.build import tools
from benchmarks.phases import Phase
from benchmarks.report import table
from benchmarks.targets import MESHES, Target

ROUNDS = 24
LOAD = Phase("short", "closed", 4, 0.4, 0.05)
"""Short, so that both sides of a round meet the same weather."""

HERE = Path(__file__).resolve().parents[1]


def beside(other: Path, plan: str, rounds: int) -> str:
    """CPU per request of every process of a mesh, of this checkout and of `other`, in turn: the least of the rounds,
    and the median of the ratios within one."""
    checkouts = {"before": other, "now": HERE}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in checkouts}
    with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as directory, ExitStack() as stack:
        programs = tools()
        engine = stack.enter_context(targets.engine(programs, Path(directory)))
        started = {}
        for name, root in checkouts.items():
            home = Path(directory) / name
            home.mkdir()
            environment = {**os.environ, "PYTHONPATH": str(root)}
            started[name] = stack.enter_context(targets.mesh(MESHES[plan], engine.port, home, environment))
        for number in range(rounds):
            order = list(started.items())
            for name, target in order if number % 2 else reversed(order):
                for process, us in _request_us(programs.load, target).items():
                    found[name].setdefault(process, []).append(us)
    rows = [(f"{MESHES[plan].title}, real processes", "before, least", "now, least", "ratio, median", "quartiles")]
    for process, before in found["before"].items():
        now = found["now"][process]
        ratios = sorted(one / other for one, other in zip(now, before, strict=True))
        quarter = statistics.quantiles(ratios, n=4)
        rows.append((f"CPU of {process} per request", f"{min(before):,.0f} µs", f"{min(now):,.0f} µs",
                     f"{statistics.median(ratios):.2f}", f"{quarter[0]:.2f} to {quarter[2]:.2f}"))  # fmt: skip
    return table(rows)


def _request_us(load: Path, target: Target) -> dict[str, float]:
    before = {name: gauge.cpu_ns(pid) for name, pid in target.pids.items()}
    said = phases.put(load, LOAD, target.port, os.sched_getaffinity(0))
    many = said["total_requests"]
    return {name: (gauge.cpu_ns(pid) - before[name]) / many / 1000 for name, pid in target.pids.items()}


def chosen_beside(other: Path, rounds: int) -> str:
    """The same decisions by both checkouts, in turn."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {"before": [], "now": []}
    for _ in range(rounds):
        for name, root in (("before", other), ("now", HERE)):
            command = [sys.executable, str(HERE / "benchmarks" / "choosing.py")]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
            )
            found[name].append(json.loads(done.stdout)["plan_us"])
    rows = [("choosing, best of each", "among", "before", "now", "ratio")]
    for case, row in found["now"][0].items():
        for many in row:
            before, now = (min(one[case][many] for one in found[name]) for name in ("before", "now"))
            rows.append((case, f"{int(many):,}", f"{before:,.0f} µs", f"{now:,.0f} µs", f"{now / before:.2f}"))
    return table(rows)


def relayed(rounds: int) -> str:
    """What a relay adds to a request at one client, sealed and open, in turn: medians of the rounds' p50."""
    one = Phase("one", "closed", 1, 0.5, 0.1)
    found: dict[str, list[float]] = {"hop1": [], "hop2": [], "hop2-open": []}
    with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as directory, ExitStack() as stack:
        programs = tools()
        engine = stack.enter_context(targets.engine(programs, Path(directory)))
        started = {
            name: stack.enter_context(targets.mesh(MESHES[name], engine.port, Path(directory))) for name in found
        }
        for _ in range(rounds):
            for name, target in started.items():
                said = phases.put(programs.load, one, target.port, os.sched_getaffinity(0))
                found[name].append(float(said["latency_p50_us"]))
    direct, sealed, opened = (statistics.median(p50s) for p50s in found.values())
    ratio = (sealed - direct) / (opened - direct)
    return table(
        [
            ("one request at a time, p50", "direct", "over an open relay", "sealed", "sealed adds, against open"),
            ("", *(f"{us / 1000:.2f} ms" for us in (direct, opened, sealed)), f"{ratio:.2f} x (must: <= 1.5)"),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.life", description=__doc__)
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="another checkout, to be measured in turn with this"
    )
    parser.add_argument("--mesh", choices=sorted(MESHES), default="local", help="of real nodes (default: %(default)s)")
    parser.add_argument("--relays", action="store_true", help="also what a relay adds, sealed and open")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of real nodes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast it is")
    options = parser.parse_args(arguments)
    print(choosing.choosing_table(choosing.measure(quick=options.quick)), end="\n\n")
    print(ways.ways_table(ways.measure(quick=options.quick)), end="\n\n")
    print(stages.stages_table(stages.measure(quick=options.quick)))
    if options.against is not None:
        rounds = 2 if options.quick else options.rounds
        print(f"\n{chosen_beside(options.against, 1 if options.quick else 3)}")
        print(f"\n{beside(options.against, options.mesh, rounds)}")
    if options.relays:
        print(f"\n{relayed(2 if options.quick else options.rounds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
