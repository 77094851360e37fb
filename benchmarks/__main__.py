"""Command line of the benchmark: starts every target, goes round them, prints the tables.

Exit status: 0 measured (gates met or not), 1 something could not be measured, 2 bad arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks import choosing, gauge, handshake, peers, report, targets
from benchmarks.build import BenchError, Tools, tools
from benchmarks.cores import layout
from benchmarks.figures import Figures, figures
from benchmarks.gates import GATES, judge
from benchmarks.phases import FULL, QUICK, Phase, Run, run
from benchmarks.targets import MESHES, Target

IDLE_S = 1.0
"""Rest before idle memory is read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says; returns the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="meshnode-bench-") as directory, ExitStack() as stack:
            return _measure(options, tools(), Path(directory), stack)
    except BenchError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted, everything that was started has been ended", file=sys.stderr)
        return 130


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure meshnode on this machine.")
    parser.add_argument("--peers", action="store_true", help="also measure LiteLLM (installs it on first use)")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="rounds to take the best of (3; 1 with --quick)")
    parser.add_argument("--only", default=",".join(MESHES), help="of these targets (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    if unknown := set(options.only) - set(MESHES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(MESHES)}")
    options.rounds = max(options.rounds or (1 if options.quick else 3), 1)
    return options


def _measure(options: argparse.Namespace, programs: Tools, directory: Path, stack: ExitStack) -> int:
    _say("handshakes")
    # Before any node runs beside it.
    shaken = handshake.measure(quick=options.quick)
    chosen = choosing.measure(quick=options.quick)
    engine = stack.enter_context(targets.engine(programs, directory))
    wanted: list[AbstractContextManager[Target]] = [
        targets.mesh(MESHES[name], engine.port, directory) for name in options.only
    ]
    if options.peers:
        wanted.append(peers.litellm(engine.port, directory))
    started = [engine, *_start(wanted, stack)]
    time.sleep(IDLE_S)
    idle = {target.name: target.resident_mb() for target in started}
    rounds: dict[str, list[dict[str, Run]]] = {target.name: [] for target in started}
    for number in range(options.rounds):
        for target in started:
            _say(f"round {number + 1} of {options.rounds}: {target.title}")
            rounds[target.name].append(_round(programs, QUICK if options.quick else FULL, target, engine))
    measured = {t.name: figures(rounds[t.name], idle[t.name], t.start_s or None) for t in started}
    _publish(options, started, measured, shaken, chosen)
    return 0 if len(started) == len(wanted) + 1 else 1


def _start(wanted: Sequence[AbstractContextManager[Target]], stack: ExitStack) -> list[Target]:
    """Those that start; of the others, why not."""
    started = []
    for target in wanted:
        try:
            started.append(stack.enter_context(target))
            _say(f"started: {started[-1].title}")
        except BenchError as error:
            _say(f"left out: {error}")
    return started


def _round(programs: Tools, phases: Sequence[Phase], target: Target, engine: Target) -> dict[str, Run]:
    """Every phase on one target, each process on its cores."""
    plan = layout(os.sched_getaffinity(0), 0 if target is engine else len(target.children))
    for child in engine.children.values():
        child.pin(set(plan.load))
    if target is not engine:
        for child, cores in zip(target.children.values(), plan.nodes, strict=True):
            child.check()
            child.pin(set(cores))
    return {phase.name: run(programs.load, phase, target.port, target.pids, set(plan.load)) for phase in phases}


def _publish(
    options: argparse.Namespace,
    started: Sequence[Target],
    measured: dict[str, Figures],
    shaken: handshake.Handshake,
    chosen: choosing.Choosing,
) -> None:
    cores = os.sched_getaffinity(0)
    facts = report.Facts(
        machine=gauge.machine(cores),
        rounds=options.rounds,
        quick=options.quick,
        pinned={t.name: layout(cores, len(t.children)).pinned for t in started if t.name != "direct"},
        versions={"LiteLLM": peers.litellm_version()} if "litellm" in measured else {},
    )
    verdicts = judge(GATES, measured)
    print(report.conditions(facts), end="\n\n")
    print(report.figures_table(measured, {target.name: target.title for target in started}), end="\n\n")
    if verdicts:
        print(report.gates_table(verdicts), end="\n\n")
    print(handshake.handshake_table(shaken), end="\n\n")
    print(choosing.choosing_table(chosen))
    for target in started:
        if measured[target.name].errors:
            print(f"\n{target.title}: requests failed, the first with: {measured[target.name].first_error}")
    if options.json is not None:
        found = report.as_json(measured, verdicts, facts) | {
            "handshake": handshake.as_json(shaken),
            "choosing": choosing.as_json(chosen),
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
