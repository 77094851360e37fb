"""The table that people read and the JSON that programs read. No host names and no paths in either.

Not for deciding anything: verdicts come from gates.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.gates import Verdict

Cell = Callable[[Figures, Figures], str]
"""Text of one cell from a target's figures and those of the engine directly."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Under which conditions the figures were taken."""

    machine: Mapping[str, str | int]
    rounds: int
    quick: bool
    pinned: Mapping[str, bool]
    versions: Mapping[str, str]


def _number(value: float | None, scale: float = 1.0, digits: int = 0) -> str:
    return "-" if value is None else f"{value / scale:,.{digits}f}"


def _added(value: float | None, base: float | None) -> str:
    return "-" if value is None or base is None else f"{(value - base) / 1000:.3f}"


def _each(values: Mapping[str, float], digits: int = 0) -> str:
    if len(values) == 1:
        return _number(next(iter(values.values())), digits=digits)
    return "  ".join(f"{name} {_number(value, digits=digits)}" for name, value in values.items()) or "-"


ROWS: tuple[tuple[str, Cell], ...] = (
    ("requests/s, 32 clients", lambda f, d: _number(f.requests_per_s)),
    ("p50 at 1 client, ms", lambda f, d: _number(f.p50_us, 1000, 3)),
    ("p99 at 1 client, ms", lambda f, d: _number(f.p99_us, 1000, 3)),
    ("  added p50, ms", lambda f, d: _added(f.p50_us, d.p50_us) if f is not d else "-"),
    ("  added p99, ms", lambda f, d: _added(f.p99_us, d.p99_us) if f is not d else "-"),
    ("CPU per request, µs", lambda f, d: _each(f.request_cpu_us)),
    ("SSE flat, 50 streams, chunks/s", lambda f, d: _number(f.flat50_per_s)),
    ("SSE flat, 200 streams, chunks/s", lambda f, d: _number(f.flat200_per_s)),
    ("  CPU per chunk, µs", lambda f, d: _each(f.flat_cpu_us, 1)),
    ("paced 50 tok/s x 50, TTFT p50, ms", lambda f, d: _number(f.ttft50_us, 1000, 2)),
    ("  TTFT added, ms", lambda f, d: _added(f.ttft50_us, d.ttft50_us) if f is not d else "-"),
    ("paced 50 tok/s x 200, TTFT p50, ms", lambda f, d: _number(f.ttft200_us, 1000, 2)),
    ("  delivered, %", lambda f, d: _number(f.delivered, 0.01, 1)),
    ("  CPU per chunk, µs", lambda f, d: _each(f.paced_cpu_us, 1)),
    ("memory idle, MB", lambda f, d: _each(f.idle_mb)),
    ("memory, 200 streams, MB", lambda f, d: _each(f.streams_mb)),
    ("start to first answer, s", lambda f, d: _number(f.start_s, digits=2)),
    ("failed requests", lambda f, d: str(f.errors)),
)


def figures_table(measured: Mapping[str, Figures], titles: Mapping[str, str]) -> str:
    """Targets side by side, the engine directly first; with LiteLLM, how many times its rate each makes."""
    direct = measured["direct"]
    rows = [("", *(titles[name] for name in measured))]
    rows += [(label, *(cell(figures, direct) for figures in measured.values())) for label, cell in ROWS]
    theirs = measured["litellm"].requests_per_s if "litellm" in measured else None
    if theirs:
        times = (_number(f.requests_per_s and f.requests_per_s / theirs, digits=1) for f in measured.values())
        rows.insert(2, ("  times LiteLLM", *times))
    return table(rows)


def gates_table(verdicts: Sequence[Verdict]) -> str:
    """One row for each bound: what was measured, what must hold, what is hoped for, pass or miss."""
    rows: list[tuple[str, ...]] = [("", "measured", "must", "", "stretch", "")]
    for verdict in verdicts:
        gate = verdict.gate
        sign = ">=" if gate.at_least else "<="
        bounds = (f"{sign} {gate.must:g}", _mark(verdict.met != "missed"), f"{sign} {gate.stretch:g}")
        rows.append((gate.title, f"{verdict.value:,.3g} {gate.unit}", *bounds, _mark(verdict.met == "stretch")))
    return table(rows)


def _mark(passed: bool) -> str:
    return "pass" if passed else "miss"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Text in columns, the first to the left and the others to the right, readable as Markdown."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    rule = [f"|{'-' * (widths[0] + 2)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]
    lines.insert(1, "|".join(rule) + "|")
    return "\n".join(lines)


def conditions(facts: Facts) -> str:
    """One paragraph: where and how the figures were taken."""
    machine = facts.machine
    floating = [name for name, pinned in facts.pinned.items() if not pinned]
    rounds = f"{facts.rounds} interleaved round{'s' if facts.rounds > 1 else ''}{', short ones' if facts.quick else ''}"
    text = (
        f"{machine['cores']} cores of {machine['processor']} ({machine['architecture']}), Python {machine['python']}, "
        f"best of {rounds}. "
        "Engine and load share one core, each process under test has its own."
    )
    if floating:
        text += f" Too few cores for that: {', '.join(floating)} ran unpinned; trust their CPU times, not their rates."
    return text + "".join(f" {name} {version}." for name, version in facts.versions.items() if version)


def as_json(measured: Mapping[str, Figures], verdicts: Sequence[Verdict], facts: Facts) -> dict[str, Any]:
    """Everything that the tables say, and the commit they belong to."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        **asdict(facts),
        "figures": {name: asdict(figures) for name, figures in measured.items()},
        "gates": [
            {
                "title": v.gate.title,
                "unit": v.gate.unit,
                "value": v.value,
                "must": v.gate.must,
                "stretch": v.gate.stretch,
                "met": v.met,
            }
            for v in verdicts
        ],
    }


def _git(*arguments: str) -> str:
    """What git says, or "" outside a repository."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
