"""How much is known, not claimed, of what a node runs. protocol.md §7.

Only this node's own verification raises a posture; a peer's word never does. Not for verifying (trust).
"""

from __future__ import annotations

import enum


class Posture(enum.IntEnum):
    """Larger is better founded, so that a request may ask for "at least"."""

    CLAIMED = 0
    SIGNED_WEIGHTS = 1
    ATTESTED = 2

    @property
    def word(self) -> str:
        """As configuration, adverts and people spell it."""
        return self.name.lower().replace("_", "-")
