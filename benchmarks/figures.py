"""From several rounds of runs to one set of figures per target. Pure: no process, no clock.

Rates, latencies and CPU times are the best of the rounds (what else ran on the machine only makes them worse),
memory is the most that was seen, errors are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.phases import Run

Round = Mapping[str, Run]
"""The run of each phase, by the phase's name."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one target. Per-process figures are by process name; None was not measured."""

    requests_per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    request_cpu_us: Mapping[str, float] = field(default_factory=dict)
    flat50_per_s: float | None = None
    flat200_per_s: float | None = None
    flat_cpu_us: Mapping[str, float] = field(default_factory=dict)
    ttft50_us: float | None = None
    ttft200_us: float | None = None
    delivered: float | None = None
    paced_cpu_us: Mapping[str, float] = field(default_factory=dict)
    idle_mb: Mapping[str, float] = field(default_factory=dict)
    streams_mb: Mapping[str, float] = field(default_factory=dict)
    start_s: float | None = None
    errors: int = 0
    first_error: str = ""


def figures(rounds: Sequence[Round], idle_mb: Mapping[str, float], start_s: float | None) -> Figures:
    """The figures of one target from all its rounds. A phase without a single success counts as not measured."""
    runs = [run for one in rounds for run in one.values()]
    return Figures(
        requests_per_s=_best(rounds, "rps", "requests_per_s", max),
        p50_us=_best(rounds, "one", "latency_p50_us", min),
        p99_us=_best(rounds, "one", "latency_p99_us", min),
        request_cpu_us=_cpu(rounds, "rps"),
        flat50_per_s=_best(rounds, "flat50", "chunks_per_s", max),
        flat200_per_s=_best(rounds, "flat200", "chunks_per_s", max),
        flat_cpu_us=_cpu(rounds, "flat200"),
        ttft50_us=_best(rounds, "paced50", "ttft_p50_us", min),
        ttft200_us=_best(rounds, "paced200", "ttft_p50_us", min),
        delivered=_best(rounds, "paced200", "delivered", max),
        paced_cpu_us=_cpu(rounds, "paced200"),
        idle_mb=idle_mb,
        streams_mb=_each(max, (one[name].peak_mb for one in rounds for name in ("flat200", "paced200") if name in one)),
        start_s=start_s,
        errors=sum(int(run.load["errors"]) for run in runs),
        first_error=next((str(run.load["first_error"]) for run in runs if run.load["first_error"]), ""),
    )


def _best(rounds: Sequence[Round], phase: str, key: str, best: Callable[[Iterable[float]], float]) -> float | None:
    values = [float(one[phase].load[key]) for one in rounds if phase in one]
    return best(counted) if (counted := [value for value in values if value > 0]) else None


def _cpu(rounds: Sequence[Round], phase: str) -> dict[str, float]:
    return _each(min, (one[phase].cpu_us for one in rounds if phase in one))


def _each(best: Callable[[Iterable[float]], float], given: Iterable[Mapping[str, float]]) -> dict[str, float]:
    maps = [one for one in given if one]
    return {name: best([one[name] for one in maps]) for name in (maps[0] if maps else {})}
