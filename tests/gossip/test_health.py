from __future__ import annotations

from meshnode.gossip.health import WORST, LocalHealth


def test_it_is_bounded_and_recovers() -> None:
    health = LocalHealth()
    assert health.factor == 1
    health.better()
    assert health.factor == 1
    for _ in range(100):
        health.worse()
    assert health.factor == 1 + WORST
    for _ in range(WORST):
        health.better()
    assert health.factor == 1
