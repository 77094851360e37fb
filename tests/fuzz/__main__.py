"""`python -m tests.fuzz [SECONDS] [TARGET...]`: fuzz targets, two at a time, each in a process of its own.

Prints executions and coverage of each; exits non-zero when any has found something. What it found lies under
`crashes/`, and becomes a file of the corpus with the change that mends it. FUZZ_SEED in the environment fixes where
each begins, so that two runs of one commit meet the same inputs. Counterpart: one.py, the process of one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import names

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GROWN = ROOT / "build" / "fuzz"
"""Inputs found on the way, kept from run to run; `make clean` removes them."""

AT_ONCE = 2
INPUT_S = 20
"""An input that takes longer is a finding; a slow machine is not."""

MEMORY_MB = 1024
ALLOCATION_MB = 256
"""At once, from inputs of at most 8 KiB."""

INPUT_BYTES = 8192
RANDOM = "0"
"""libFuzzer's word for a new seed each time."""

SEED = os.environ.get("FUZZ_SEED", RANDOM)

START_S = 120
"""Beyond the time for fuzzing: instrumenting the modules, and the corpus once."""


@dataclass(frozen=True)
class Outcome:
    """How one target's run ended. `coverage` counts edges of the instrumented modules."""

    name: str
    executions: int
    coverage: int
    crashes: tuple[Path, ...]
    code: int
    tail: str


def fuzz(name: str, seconds: int) -> Outcome:
    """One target for so long, or to its first finding."""
    crashes, grown = HERE / "crashes" / name, GROWN / name
    for folder in (crashes, grown):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(crashes.iterdir())
    line = [
        sys.executable, "-m", "tests.fuzz.one", name, str(grown), str(HERE / "corpus" / name),
        f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", f"-timeout={INPUT_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-malloc_limit_mb={ALLOCATION_MB}", f"-max_len={INPUT_BYTES}",
        "-print_final_stats=1", f"-seed={SEED}",
    ]  # fmt: skip
    surroundings = {**os.environ, **({"PYTHONHASHSEED": SEED} if SEED != RANDOM else {})}
    try:
        ran = subprocess.run(
            line, cwd=ROOT, env=surroundings, capture_output=True, timeout=seconds + START_S, check=False
        )
        code, said = ran.returncode, (ran.stdout + ran.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        code, said = -1, (error.stderr or b"").decode(errors="replace") + "\nit did not end\n"
    executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", said)
    coverage = re.findall(r"cov: (\d+)", said)
    found = tuple(sorted(set(crashes.iterdir()) - before))
    return Outcome(
        name, int(executions[-1]) if executions else 0, int(coverage[-1]) if coverage else 0, found, code, _reason(said)
    )


def _reason(said: str) -> str:
    """Of all that libFuzzer says, what a finding is: the exception, or the end."""
    at = said.find(" === Uncaught Python exception: ===")
    words = said[at:] if at >= 0 else said[-4000:]
    return "\n".join(line for line in words.splitlines() if not line.startswith("#"))[:6000]


def report(outcome: Outcome) -> None:
    """A line for one target; of a finding, what the fuzzer said last."""
    state = "ok" if not outcome.code else f"FOUND (exit {outcome.code})"
    print(f"{outcome.name:<12} {outcome.executions:>10,} executions  {outcome.coverage:>6,} edges  {state}", flush=True)
    if outcome.code:
        print(outcome.tail)
        for path in outcome.crashes:
            print(f"  input: {path.relative_to(ROOT)}", flush=True)


def main(arguments: list[str]) -> int:
    """The exit code: 0 when nothing was found."""
    seconds = int(arguments[0]) if arguments else 60
    chosen = arguments[1:] or names()
    unknown = set(chosen) - set(names())
    if unknown:
        print(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
        return 2
    findings = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(lambda name: fuzz(name, seconds), chosen):
            report(outcome)
            findings += bool(outcome.code)
    for folder in (HERE / "crashes").glob("*"):
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    print(f"{len(chosen)} targets, {findings} with findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
