"""Which addresses heard on the LAN are worth a try: few at once, few new ones a second. Pure.

Anybody on the LAN can send thousands, so a hint costs nothing until it has been let in here. Not for dialling them
(dialling.py) nor for hearing them (the mesh room's multicast). protocol.md §4.
"""

from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.gossip.candidates import is_loopback, well_formed
from meshnode.gossip.rates import Bucket

TRIES = 3
"""Failed dials after which a hint is dropped."""

HINT_S = 3600.0
"""A hint that is not heard again for so long is dropped; announcements are repeated well within an hour (RFC 6762
§10 gives records 75 minutes at most)."""


class Hints:
    """Lets new hints in at the section's rate, and not at once again what has just failed."""

    def __init__(self, section: MeshSection) -> None:
        self._bucket = Bucket(section.hints_per_s, 1.0 / section.hints_per_s)
        self._most = section.hints
        self._rest_s = section.redial_max_s
        self._failed: dict[str, float] = {}

    def admit(self, address: str, now: float) -> bool:
        """Whether this hint, which is not held yet, may be. Takes from the rate when it may."""
        if not self._bucket.available(now) or self._failed.get(address, float("-inf")) > now - self._rest_s:
            return False
        return well_formed(address) and not is_loopback(address) and self._bucket.take(now)

    def gave_up(self, address: str, now: float) -> None:
        """It failed TRIES times: heard again too soon, it is no news."""
        self._failed.pop(address, None)
        while len(self._failed) >= self._most:
            del self._failed[next(iter(self._failed))]
        self._failed[address] = now

    def forgive(self) -> None:
        """This machine is somewhere else now: what failed there may answer here."""
        self._failed.clear()
