"""Bounds are judged on the right side, and only where something was measured."""

from __future__ import annotations

import pytest

from benchmarks.figures import Figures
from benchmarks.gates import GATES, judge


def met(title: str, **measured: Figures) -> str:
    return next(v.met for v in judge(GATES, measured) if v.gate.title == title)


@pytest.mark.parametrize(
    ("us", "expected"), [(49, "stretch"), (50, "stretch"), (51, "must"), (80, "must"), (81, "missed")]
)
def test_less_cpu_is_better(us: float, expected: str) -> None:
    assert met("local hop: CPU per request", local=Figures(request_cpu_us={"A": us})) == expected


@pytest.mark.parametrize(("rate", "expected"), [(12_100, "stretch"), (5_000, "must"), (4_900, "missed")])
def test_a_higher_rate_is_better(rate: float, expected: str) -> None:
    title = "local hop: requests/s at 32 clients against LiteLLM"
    assert met(title, local=Figures(requests_per_s=rate), litellm=Figures(requests_per_s=100)) == expected


def test_latency_is_what_is_added_to_the_engine_alone() -> None:
    title = "mesh hop: added p50, 1 client"
    measured = {"direct": Figures(p50_us=300), "hop1": Figures(p50_us=1200)}
    assert met(title, **measured) == "must"
    assert next(v.value for v in judge(GATES, measured) if v.gate.title == title) == pytest.approx(0.9)


@pytest.mark.parametrize(("sealed_us", "expected"), [(1500, "stretch"), (1700, "must"), (1800, "missed")])
def test_a_sealed_relay_is_held_against_an_open_one(sealed_us: float, expected: str) -> None:
    measured = {"hop1": Figures(p50_us=1000), "hop2": Figures(p50_us=sealed_us), "hop2-open": Figures(p50_us=1500)}
    assert met("relay: added p50, 1 client, sealed against open", **measured) == expected


def test_the_worse_of_both_flat_loads_is_judged() -> None:
    title = "local hop: flat SSE, the worse of 50 and 200 streams"
    assert met(title, local=Figures(flat50_per_s=200_000, flat200_per_s=70_000)) == "missed"


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge(GATES, {"direct": Figures(p50_us=5.0), "hop2": Figures(p50_us=900.0)}) == []


def test_stretch_is_never_looser_than_must() -> None:
    for gate in GATES:
        assert gate.stretch > gate.must if gate.at_least else gate.stretch < gate.must, gate.title
