"""Section `node`: who this machine is to people, and how it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Seconds


@dataclass(frozen=True, slots=True)
class NodeSection:
    # What people read in lists. Empty: the host's name, which they already know the machine by.
    name: str = ""
    # Whose machine it is, for owner affinity and pages. Empty: nobody's in particular.
    owner: str = ""
    # How long answers in flight may take to finish once a stop was asked for (requests.md §3: up to 120 s).
    grace_s: Seconds = 120.0
