"""What must hold, as data: the bounds that the project has set itself, and whether measured figures keep them.

A gate whose figures were not measured (a target left out, no LiteLLM) has no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figures

Measured = Mapping[str, Figures]
"""Figures by the target's name."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on one value. `at_least`: more is better; otherwise less is."""

    title: str
    unit: str
    must: float
    stretch: float
    value: Callable[[Measured], float | None]
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a gate was met: `stretch`, `must`, or `missed`."""

    gate: Gate
    value: float
    met: str


def judge(gates: tuple[Gate, ...], measured: Measured) -> list[Verdict]:
    """A verdict for each gate that could be measured, in order."""
    found = ((gate, gate.value(measured)) for gate in gates)
    return [Verdict(gate, value, _met(gate, value)) for gate, value in found if value is not None]


def _met(gate: Gate, value: float) -> str:
    sign = -1 if gate.at_least else 1
    if value * sign <= gate.stretch * sign:
        return "stretch"
    return "must" if value * sign <= gate.must * sign else "missed"


def _of(target: str, pick: Callable[[Figures], float | None]) -> Callable[[Measured], float | None]:
    return lambda measured: pick(measured[target]) if target in measured else None


def _added_ms(target: str, pick: Callable[[Figures], float | None]) -> Callable[[Measured], float | None]:
    def value(measured: Measured) -> float | None:
        through, direct = _of(target, pick)(measured), _of("direct", pick)(measured)
        return None if through is None or direct is None else (through - direct) / 1000

    return value


def _sealed_to_open(measured: Measured) -> float | None:
    """What a sealed relay adds to a direct hop, in times of what an open one does."""
    sealed, opened = (_over_hop1(name, measured) for name in ("hop2", "hop2-open"))
    return sealed / opened if sealed is not None and opened else None


def _over_hop1(target: str, measured: Measured) -> float | None:
    relayed, direct = (_of(name, lambda f: f.p50_us)(measured) for name in (target, "hop1"))
    return relayed - direct if relayed is not None and direct is not None else None


def _times_litellm(measured: Measured) -> float | None:
    ours, theirs = (_of(name, lambda f: f.requests_per_s)(measured) for name in ("local", "litellm"))
    return ours / theirs if ours and theirs else None


def _flat(figures: Figures) -> float | None:
    """The worse of 50 and 200 streams, in thousands of chunks per second."""
    few, many = figures.flat50_per_s, figures.flat200_per_s
    return None if few is None or many is None else min(few, many) / 1000


def _worst(values: Mapping[str, float]) -> float | None:
    return max(values.values(), default=None)


def _target_gates(name: str, title: str, flat: tuple[float, float], ttft: tuple[float, float]) -> tuple[Gate, ...]:
    return (
        Gate(
            f"{title}: flat SSE, the worse of 50 and 200 streams", "k chunks/s", *flat, _of(name, _flat), at_least=True
        ),
        # All of them but for rounding: each stream ends and begins anew within the window.
        Gate(f"{title}: paced 200 x 50 tok/s, delivered", "%", 97, 99.5, _of(name, _delivered), at_least=True),
        Gate(f"{title}: TTFT added, 50 paced streams, p50", "ms", *ttft, _added_ms(name, lambda f: f.ttft50_us)),
        Gate(f"{title}: memory idle, the largest node", "MB", 80, 64, _of(name, lambda f: _worst(f.idle_mb))),
        Gate(f"{title}: memory, 200 streams", "MB", 110, 80, _of(name, lambda f: _worst(f.streams_mb))),
    )


def _delivered(figures: Figures) -> float | None:
    return None if figures.delivered is None else figures.delivered * 100


def _cpu_gate(target: str, node: str, title: str, must: float, stretch: float) -> Gate:
    return Gate(f"{title}: CPU per request", "µs", must, stretch, _of(target, lambda f: f.request_cpu_us.get(node)))


def _chunk_gate(target: str, node: str, title: str, must: float, stretch: float) -> Gate:
    return Gate(f"{title}: CPU per paced chunk", "µs", must, stretch, _of(target, lambda f: f.paced_cpu_us.get(node)))


GATES: tuple[Gate, ...] = (
    Gate("local hop: requests/s at 32 clients against LiteLLM", "x", 50, 120, _times_litellm, at_least=True),
    _cpu_gate("local", "A", "local hop", 80, 50),
    Gate("local hop: added p50, 1 client", "ms", 0.15, 0.06, _added_ms("local", lambda f: f.p50_us)),
    _chunk_gate("local", "A", "local hop", 65, 45),
    *_target_gates("local", "local hop", flat=(80, 130), ttft=(1.0, 0.3)),
    Gate("local hop: start to first answer", "s", 1.0, 0.5, _of("local", lambda f: f.start_s)),
    _cpu_gate("hop1", "A", "mesh hop, A", 200, 130),
    _cpu_gate("hop1", "B", "mesh hop, B", 200, 130),
    Gate("mesh hop: added p50, 1 client", "ms", 1.0, 0.5, _added_ms("hop1", lambda f: f.p50_us)),
    _chunk_gate("hop1", "A", "mesh hop, A", 60, 35),
    _chunk_gate("hop1", "B", "mesh hop, B", 70, 45),
    *_target_gates("hop1", "mesh hop", flat=(60, 100), ttft=(4.0, 1.6)),
    Gate("relay: added p50, 1 client, sealed against open", "x", 1.5, 1.0, _sealed_to_open),
)
"""Per core and node, best of the rounds."""
