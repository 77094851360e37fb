"""The clock by which evidence grows old: the faster of two, so that sleep and a clock set back count against it.

The monotonic clock stands still while a machine is suspended; the wall clock can be set back. Not for saying what time
it is: it only ever goes on, from nought.
"""

from __future__ import annotations

LEAP_S = 1.0
"""By so much one clock has to be ahead between two looks to count: clocks that are slewed differ by less."""


class Ageing:
    """`read(monotonic, wall)` is the age of this clock, never less than by either since it was last read."""

    def __init__(self, monotonic: float, wall: float) -> None:
        self._last = (monotonic, wall)
        self._age_s = 0.0
        self.leapt = False
        """Whether the wall clock was ahead when it was last read: the machine has slept, or its clock was set."""

    def read(self, monotonic: float, wall: float) -> float:
        """Seconds that have passed by the clock that saw more of them."""
        passed, by_wall = monotonic - self._last[0], wall - self._last[1]
        self._last = (monotonic, wall)
        self.leapt = by_wall - passed > LEAP_S
        self._age_s += max(0.0, by_wall if self.leapt else passed)
        return self._age_s
