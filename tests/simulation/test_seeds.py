"""The seeds that once found something (tests/seeds.txt), in the suite. A failure says how to see it again.

New seeds are `make simulate`'s, which CI runs beside the suite.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.simulation import report
from tests.simulation.__main__ import over
from tests.simulation.faults import read
from tests.simulation.run import Setup

FOUND = Path(__file__).parents[1] / "seeds.txt"


def found() -> Iterator[Setup]:
    for line in FOUND.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            seed, nodes, scenario = words
            yield Setup(int(seed), int(nodes), None if scenario == "-" else tuple(read(scenario)))


def test_every_invariant_holds_where_one_once_broke() -> None:
    outcomes = list(over(found()))
    broken = [outcome for outcome in outcomes if outcome.failure]
    assert not broken, "\n".join(map(report.failed, broken))
    assert all(outcome.outcomes["ok"] > 10 for outcome in outcomes), "and most jobs are answered"
