"""Fast facts: what a node says of its load to its neighbours, many times a minute. Never flooded, never in adverts.

They ride on probes and their answers. Not for what to make of them (routing), which reads them as it reads the load
in trailers. Counterpart: slots, which knows them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.model.advert import Count

MOST = 1_000_000
MOST_WAIT_MS = 86_400_000
"""A day: whoever waits longer is not waiting."""


class Facts(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Slots that are free, requests that wait, requests under way, and what a newcomer would wait, all engines of the
    node together."""

    free: Count
    queued: Count
    in_flight: Count
    wait_ms: Annotated[int, Meta(ge=0, le=MOST_WAIT_MS)]

    @property
    def busy(self) -> int:
        """Slots that are taken, as `routing.LoadFacts` names them."""
        return self.in_flight

    @property
    def expected_wait_s(self) -> float:
        """What a newcomer would wait, as `routing.LoadFacts` names it."""
        return self.wait_ms / 1000


def facts(free: int, queued: int, in_flight: int, wait_s: float) -> Facts:
    """Facts within their bounds."""
    wait_ms = min(max(0.0, wait_s * 1000), MOST_WAIT_MS)
    free, queued, in_flight = (min(max(0, count), MOST) for count in (free, queued, in_flight))
    return Facts(free, queued, in_flight, int(wait_ms))
