"""Section `node`: who this machine is to people, and how it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from meshnode.config.types import Seconds, Whole

# As large as an advert can say.
Watts = Annotated[int, Meta(ge=0, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class NodeSection:
    # What people read in lists. Empty: the host's name, which they already know the machine by.
    name: str = ""
    # Whose machine it is, for owner affinity and pages. Empty: nobody's in particular. As long as certificates take it.
    owner: Annotated[str, Meta(max_length=64)] = ""
    # What this machine asks for a million tokens, in millionths of the mesh's unit of money, whatever that is; others
    # choose it less often for it. 0: nothing, as among one's own machines.
    price_micro_per_mtok: Whole = 0
    # What it draws while it computes, for those who choose by it. 0: not told.
    watts: Watts = 0
    # How long answers in flight may take to finish once a stop was asked for (requests.md §3: up to 120 s).
    grace_s: Seconds = 120.0
