"""The benchmark of choosing chooses, and says whether it was quick enough."""

from __future__ import annotations

from random import Random

from benchmarks.choosing import Choosing, cases, choosing_table, mesh
from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.routing import LocalState, Router


def test_every_candidate_is_eligible() -> None:
    made = Router(DispatchSection(), RoutingSection())
    for job in cases().values():
        plan = made.consider(job, mesh(30), LocalState(), Random(1), 0.0)
        assert (plan.eligible, plan.left_out) == (30, 0)


def test_the_table_says_what_is_met() -> None:
    lines = choosing_table(
        Choosing({"a": {10: 1.0, 100: 2.0, 1000: 999.0}, "b": {10: 1.0, 100: 2000.0, 1000: 1001.0}})
    ).splitlines()
    assert "pass" in lines[2]
    assert "miss" in lines[3]
