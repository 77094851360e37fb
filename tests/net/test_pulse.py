from __future__ import annotations

from dataclasses import replace

import pytest

from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkClosed
from meshnode.net.pulse import Pulse

SECTION = replace(MeshSection(), ping_s=5.0, ping_misses=3)


def test_so_many_silent_intervals_are_death() -> None:
    pulse = Pulse(SECTION)
    pulse.beat()
    pulse.beat()
    with pytest.raises(LinkClosed, match="15 s"):
        pulse.beat()


def test_any_byte_starts_the_count_anew() -> None:
    pulse = Pulse(SECTION)
    for _ in range(10):
        pulse.beat()
        pulse.beat()
        pulse.heard = True
        pulse.beat()


def test_the_round_trip_time_is_smoothed() -> None:
    pulse = Pulse(SECTION)
    assert pulse.rtt_s is None
    pulse.ponged(0.1)
    assert pulse.rtt_s == 0.1
    pulse.ponged(0.9)
    assert pulse.rtt_s == pytest.approx(0.2)
