"""Whose requests a node takes at the moment: a word that admission and what is told of it share.

Not for why (slots.sharing): a pause, a schedule or the machine's settings.
"""

from __future__ import annotations

import enum


class Takes(enum.IntEnum):
    """Larger is stricter."""

    EVERYBODYS = 0
    OWN = 1
    NOBODYS = 2
