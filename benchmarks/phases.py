"""The loads that are put on each target, and one run of one of them: the load's own figures plus CPU and memory.

Not for taking the best of several runs (figures.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import gauge
from benchmarks.build import BenchError

SETTLE_S = 0.3
"""Rest before a load, so that the last one's closed connections are forgotten."""

QUIET_SHARE = 0.1
"""A process that uses more of a core than this is not at rest."""

PATIENCE_S = 60.0
"""The longest rest: some proxies work on for clients that have left, and the next figures would pay for it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of load. Seconds are measured ones, after the warm-up."""

    name: str
    mode: str
    clients: int
    seconds: float
    warmup_s: float
    tokens: int = 64
    rate: float = 0.0

    def arguments(self, port: int) -> list[str]:
        """The load generator's command line."""
        given = {
            "port": port,
            "mode": self.mode,
            "clients": self.clients,
            "seconds": self.seconds,
            "warmup": self.warmup_s,
            "tokens": self.tokens,
            "rate": self.rate,
        }
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    @property
    def unit(self) -> str:
        """What CPU time is divided by: total_requests or total_chunks of the load's figures."""
        return "total_requests" if self.mode == "closed" else "total_chunks"


FULL = (
    Phase("one", "closed", 1, 3.0, 0.5),
    Phase("rps", "closed", 32, 3.0, 0.5),
    Phase("flat50", "flat", 50, 3.0, 0.5, tokens=250),
    Phase("flat200", "flat", 200, 3.0, 0.5, tokens=250),
    # Streams are short, so that a proxy that works on for clients that have left is done within the patience above.
    # Paced: five seconds a stream, so that new ones begin all the time among those that run.
    Phase("paced50", "paced", 50, 5.0, 1.0, tokens=250, rate=50.0),
    Phase("paced200", "paced", 200, 6.0, 2.0, tokens=250, rate=50.0),
)
QUICK = (
    Phase("one", "closed", 1, 0.8, 0.2),
    Phase("rps", "closed", 32, 0.8, 0.2),
    Phase("flat50", "flat", 50, 0.8, 0.2, tokens=250),
    Phase("flat200", "flat", 200, 0.8, 0.2, tokens=250),
    Phase("paced50", "paced", 50, 1.5, 0.5, tokens=250, rate=50.0),
    Phase("paced200", "paced", 200, 1.5, 1.0, tokens=250, rate=50.0),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one load found: the generator's JSON, CPU µs per request or chunk and peak MB of each process."""

    load: Mapping[str, Any]
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    peak_mb: Mapping[str, float] = field(default_factory=dict)


def run(program: Path, phase: Phase, port: int, pids: Mapping[str, int], cores: set[int]) -> Run:
    """Put one load on one port. Raises BenchError when the generator fails; failed requests are in its figures."""
    settle(pids)
    before = _cpu_s(pids)
    with gauge.peak_resident(pids) as peaks:
        said = put(program, phase, port, cores)
    work = said[phase.unit]
    used = {name: after - before[name] for name, after in _cpu_s(pids).items()}
    cpu_us = {name: seconds / work * 1e6 for name, seconds in used.items()} if work else {}
    return Run(said, cpu_us, peaks)


def settle(pids: Mapping[str, int]) -> None:
    """Return when the processes have come to rest, or patience is over."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        before = _cpu_s(pids)
        time.sleep(SETTLE_S)
        busiest = max((after - before[name] for name, after in _cpu_s(pids).items()), default=0.0)
        if busiest <= QUIET_SHARE * SETTLE_S or time.monotonic() > give_up:
            return


def _cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: gauge.cpu_s(pid) for name, pid in pids.items()}


def put(program: Path, phase: Phase, port: int, cores: set[int]) -> dict[str, Any]:
    """Put one load on one port; what the generator says of it. Raises BenchError."""
    everywhere = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)  # the child inherits it
        process = subprocess.Popen([str(program), *phase.arguments(port)], stdout=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, everywhere)
    try:
        out, _ = process.communicate(timeout=phase.warmup_s + phase.seconds + 30)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"the load generator did not end ({phase.name})") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise BenchError(f"the load generator ended with status {process.returncode} ({phase.name})")
    said: dict[str, Any] = json.loads(out)
    return said
