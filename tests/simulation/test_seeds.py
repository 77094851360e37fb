"""The simulator in the suite: some seeds of its own, and those that once found something (tests/seeds.txt).

`make simulate` runs many more. A failure says how to see it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation import report
from tests.simulation.__main__ import HASH_SEED, over
from tests.simulation.faults import read
from tests.simulation.run import Setup

SEEDS = 24
NODES = 50
FOUND = Path(__file__).parents[1] / "seeds.txt"


def found() -> Iterator[Setup]:
    for line in FOUND.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            seed, nodes, scenario = words
            yield Setup(int(seed), int(nodes), None if scenario == "-" else tuple(read(scenario)))


def test_every_invariant_holds_at_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", HASH_SEED)
    setups = itertools.chain(found(), (Setup(seed, NODES) for seed in range(SEEDS)))
    outcomes = list(over(setups))
    broken = [outcome for outcome in outcomes if outcome.failure]
    assert not broken, "\n".join(map(report.failed, broken))
    assert sum(outcome.outcomes["ok"] for outcome in outcomes) > 10 * SEEDS, "and most jobs are answered"
