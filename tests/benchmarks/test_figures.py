"""The best of the rounds for speed, the most for memory, the sum for errors."""

from __future__ import annotations

from benchmarks.figures import figures
from benchmarks.phases import FULL, QUICK, Run


def load(**values: float | str) -> dict[str, float | str]:
    empty = {"requests_per_s": 0, "latency_p50_us": 0, "latency_p99_us": 0, "chunks_per_s": 0, "ttft_p50_us": 0}
    return {**empty, "delivered": 0, "errors": 0, "first_error": "", **values}


def test_the_best_round_counts_for_rates_and_latencies() -> None:
    rounds = [
        {"rps": Run(load(requests_per_s=100)), "one": Run(load(latency_p50_us=50, latency_p99_us=90))},
        {"rps": Run(load(requests_per_s=300)), "one": Run(load(latency_p50_us=70, latency_p99_us=80))},
    ]
    found = figures(rounds, {}, 0.4)
    assert (found.requests_per_s, found.p50_us, found.p99_us, found.start_s) == (300, 50, 80, 0.4)


def test_cpu_is_the_least_and_memory_the_most_of_each_process() -> None:
    rounds = [
        {"rps": Run(load(), {"A": 90, "B": 50}), "flat200": Run(load(), {}, {"A": 70, "B": 60})},
        {"rps": Run(load(), {"A": 80, "B": 55}), "paced200": Run(load(), {}, {"A": 65, "B": 75})},
    ]
    found = figures(rounds, {"A": 61}, None)
    assert found.request_cpu_us == {"A": 80, "B": 50}
    assert found.streams_mb == {"A": 70, "B": 75}
    assert found.idle_mb == {"A": 61}


def test_a_phase_without_success_is_not_measured() -> None:
    found = figures([{"rps": Run(load(errors=3, first_error="status 503"))}], {}, None)
    assert found.requests_per_s is None
    assert (found.errors, found.first_error) == (3, "status 503")


def test_errors_of_all_phases_and_rounds_add_up() -> None:
    rounds = [{"rps": Run(load(errors=1)), "one": Run(load(errors=2))}, {"rps": Run(load(errors=4))}]
    assert figures(rounds, {}, None).errors == 7


def test_quick_and_full_measure_the_same_things() -> None:
    shapes = [[(phase.name, phase.mode, phase.clients, phase.rate) for phase in phases] for phases in (FULL, QUICK)]
    assert shapes[0] == shapes[1]
