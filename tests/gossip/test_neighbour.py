"""What a neighbour may cost this node."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip.neighbour import Neighbour, burst, neighbour
from meshnode.gossip.rates import Bucket

SECTION = GossipSection()

PER_ROUND = {
    "checks": SECTION.verifications_per_s * SECTION.anti_entropy_s,
    "served": SECTION.verifications_per_s * SECTION.anti_entropy_s,
    "digests": 2.0,
    "favours": 32 * SECTION.anti_entropy_s / SECTION.probe_s,
    "proofs": 8.0,
}
"""What each budget gains between two rounds of anti-entropy."""


def spend(bucket: Bucket, now: float) -> int:
    taken = 0
    while bucket.take(now):
        taken += 1
    return taken


def budgets(of: Neighbour) -> dict[str, Bucket]:
    found = {field.name: getattr(of, field.name) for field in fields(of)}
    return {name: value for name, value in found.items() if isinstance(value, Bucket)}


@pytest.mark.parametrize("name", PER_ROUND)
def test_a_budget_is_full_at_first_and_regains_its_rate(name: str) -> None:
    bucket = budgets(neighbour(SECTION))[name]
    full = spend(bucket, 0.0)
    assert full == bucket.burst
    # However long it was silent, no more than full.
    assert spend(bucket, 1e9) == full
    gained = sum(spend(bucket, 1e9 + SECTION.anti_entropy_s * step / 100) for step in range(1, 1001)) / 10
    assert gained == pytest.approx(PER_ROUND[name], rel=0.02, abs=0.2)


def test_every_budget_is_bounded() -> None:
    assert budgets(neighbour(SECTION)).keys() == PER_ROUND.keys()


@given(st.integers(1, 1000), st.floats(0.01, 100.0))
def test_rounds_alone_reach_the_full_rate_of_checks(per_s: int, anti_entropy_s: float) -> None:
    section = replace(SECTION, verifications_per_s=per_s, anti_entropy_s=anti_entropy_s)
    assert burst(section) == max(1, int(per_s * anti_entropy_s))
    assert neighbour(section).checks.burst == neighbour(section).served.burst == burst(section)
