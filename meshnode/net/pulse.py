"""Whether the other end of a link still lives, and how far away it is. Pure.

Not for sending pings (link.py).
"""

from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.errors import LinkClosed

RTT_WEIGHT = 0.125
"""Weight of a new sample in the smoothed round trip time (RFC 6298 §2)."""


class Pulse:
    """`heard` is set for every byte of the peer; `beat` is called once a ping interval; `rtt_s` is smoothed, None
    before the first ping came back."""

    __slots__ = ("_misses", "_most", "_ping_s", "heard", "rtt_s")

    def __init__(self, section: MeshSection) -> None:
        self._ping_s = section.ping_s
        self._most = section.ping_misses
        self._misses = 0
        self.heard = False
        self.rtt_s: float | None = None

    def beat(self) -> None:
        """An interval has passed. Raises LinkClosed after too many without a byte: an answer to a ping may wait behind
        a slow pipe, so any byte is a sign of life."""
        if self.heard:
            self._misses, self.heard = 0, False
            return
        self._misses += 1
        if self._misses >= self._most:
            raise LinkClosed(f"no sign of life for {self._ping_s * self._most:g} s")

    def ponged(self, rtt_s: float) -> None:
        """A ping came back."""
        self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + RTT_WEIGHT * (rtt_s - self.rtt_s)
