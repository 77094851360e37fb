"""What people and programs read says what was measured, and nothing of where."""

from __future__ import annotations

import json

from benchmarks.figures import Figures
from benchmarks.gates import GATES, judge
from benchmarks.report import Facts, as_json, conditions, figures_table, gates_table

DIRECT = Figures(requests_per_s=150_000, p50_us=5, p99_us=8)
LOCAL = Figures(requests_per_s=15_000, p50_us=72, p99_us=108, request_cpu_us={"A": 44}, idle_mb={"A": 61})
LITELLM = Figures(requests_per_s=150)
MEASURED = {"direct": DIRECT, "local": LOCAL, "litellm": LITELLM}
TITLES = {"direct": "engine directly", "local": "local hop", "litellm": "LiteLLM"}
MACHINE = {"architecture": "x86_64", "cores": 2, "processor": "a processor", "kernel": "6.1", "python": "3.11.7"}
FACTS = Facts(MACHINE, 3, False, {"local": True, "hop1": False}, {"LiteLLM": "1.0"})


def cells(text: str, label: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip("| ").startswith(label))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_targets_stand_side_by_side() -> None:
    text = figures_table(MEASURED, TITLES)
    assert cells(text, "requests/s, 32") == ["150,000", "15,000", "150"]
    assert cells(text, "times LiteLLM") == ["1,000.0", "100.0", "1.0"]
    assert cells(text, "added p50") == ["-", "0.067", "-"]
    assert len({len(line) for line in text.splitlines()}) == 1


def test_each_process_of_a_mesh_has_its_figure() -> None:
    hop = Figures(request_cpu_us={"A": 121.4, "B": 131.6})
    text = figures_table({"direct": DIRECT, "hop1": hop}, {**TITLES, "hop1": "one mesh hop"})
    assert cells(text, "CPU per request")[1] == "A 121  B 132"


def test_verdicts_are_pass_or_miss() -> None:
    text = gates_table(judge(GATES, MEASURED))
    assert cells(text, "local hop: requests/s") == ["100 x", ">= 50", "pass", ">= 120", "miss"]


def test_what_ran_unpinned_is_said() -> None:
    assert "hop1 ran unpinned" in conditions(FACTS)


def test_the_json_holds_figures_and_gates() -> None:
    said = json.loads(json.dumps(as_json(MEASURED, judge(GATES, MEASURED), FACTS)))
    assert said["figures"]["local"]["request_cpu_us"] == {"A": 44}
    assert said["machine"] == MACHINE
    assert {gate["met"] for gate in said["gates"]} <= {"stretch", "must", "missed"}
