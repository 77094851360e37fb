"""Frames just taken in: news comes from every neighbour within moments, in the same bytes, and is not read twice.

Most frames of a mesh are such. Not for whether who sent one lives (detector.py).
"""

from __future__ import annotations

from meshnode.gossip.messages import Carried
from meshnode.gossip.table import State, Table

_MOST = 128
_MOST_BYTES = 2048
"""256 KiB at most; a larger frame is an answer to one neighbour, not news."""


class Echoes:
    """The last frames all of which stands in the table: the same again would bring nothing."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._recent: dict[bytes, None] = {}

    def __contains__(self, frame: bytes) -> bool:
        return frame in self._recent

    def __len__(self) -> int:
        return len(self._recent)

    def remember(self, frame: bytes, items: tuple[Carried, ...]) -> None:
        """A frame with these adverts has been taken in."""
        if len(frame) > _MOST_BYTES:
            return
        held = (self._table.holder(item.signed.body) for item in items)
        if all(entry is not None and entry.state is not State.OVER for entry in held):
            self._recent[frame] = None
            if len(self._recent) > _MOST:
                del self._recent[next(iter(self._recent))]
