"""Jobs this node has met, so that a loop or a duplicate is refused whatever the headers say. Pure; protocol.md §6.

Not for idempotency towards clients (dispatch). Bounded in number and age; the oldest go first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.model.ids import NodeId

Key = tuple[NodeId, str, int]
"""Origin, job id, attempt."""


@dataclass(slots=True)
class Seen:
    """Remembers at most `limit` jobs for `age_s` seconds each."""

    limit: int
    age_s: float
    _at: dict[Key, float] = field(default_factory=dict)

    def first(self, key: Key, now: float) -> bool:
        """Remember `key`; whether this is the first time within the age."""
        while self._at:
            oldest = next(iter(self._at))
            if len(self._at) < self.limit and now - self._at[oldest] < self.age_s:
                break
            del self._at[oldest]
        if key in self._at:
            return False
        self._at[key] = now
        return True

    def __len__(self) -> int:
        return len(self._at)
