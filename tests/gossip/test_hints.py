"""Which hints are let in."""

from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.gossip.hints import Hints

SECTION = MeshSection(hints=4, hints_per_s=5, redial_max_s=60.0)


def test_a_flood_gets_its_rate_and_no_more() -> None:
    hints = Hints(SECTION)
    let_in = [hints.admit(f"10.0.{n >> 8}.{n & 255}:1", n / 1000.0) for n in range(2000)]
    assert sum(let_in) == 5 + 9


def test_what_is_no_address_costs_nothing_of_the_rate() -> None:
    hints = Hints(SECTION)
    assert not any(hints.admit(bad, 0.0) for bad in ("nonsense", "127.0.0.1:1", "[::]:1", "10.0.0.1:0") * 10)
    assert all(hints.admit(f"10.0.0.{n}:1", 0.0) for n in range(5))


def test_what_was_given_up_rests_unless_this_machine_moves() -> None:
    hints = Hints(SECTION)
    hints.gave_up("10.0.0.1:1", 0.0)
    assert not hints.admit("10.0.0.1:1", 59.0) and hints.admit("10.0.0.1:1", 61.0)
    hints.gave_up("10.0.0.1:1", 61.0)
    hints.forgive()
    assert hints.admit("10.0.0.1:1", 61.5)
    for number in range(100):
        hints.gave_up(f"10.0.0.{number}:1", 62.0)
    assert len(hints._failed) == SECTION.hints
