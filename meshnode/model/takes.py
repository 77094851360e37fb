"""Whose requests a node takes at the moment: a word that adverts, admission and routing share.

Not for why (slots.sharing): a pause, a schedule or the machine's settings.
"""

from __future__ import annotations

import enum


class Takes(enum.IntEnum):
    """Larger is stricter. A number that an advert holds and nobody here knows is read as nobody's."""

    EVERYBODYS = 0
    OWN = 1
    NOBODYS = 2

    @classmethod
    def read(cls, number: int) -> Takes:
        """What an advert's number means."""
        return cls(min(max(number, 0), cls.NOBODYS))
