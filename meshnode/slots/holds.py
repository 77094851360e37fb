"""How long slots are held, learnt: by owner, whose requests are alike, and by all. Pure.

What estimates of waits and the work that owners are charged begin with; admission.py corrects it by what was measured.
"""

from __future__ import annotations

from collections import OrderedDict

GUESS_S = 10.0
"""How long a slot is held until the first one was seen: a chat answer of 300 tokens at 30 per second."""

LEAST_S = 1e-3

OWNERS = 256
"""Owners whose habits are known; of more, who asked last longest ago is forgotten, and is as all are."""

_LEARN_SHARE = 0.2


class Holds:
    """Averages that follow the last few requests."""

    def __init__(self) -> None:
        self._usual_s: float | None = None
        self._by_owner: OrderedDict[str, float] = OrderedDict()

    @property
    def usual_s(self) -> float:
        """Of any request."""
        return GUESS_S if self._usual_s is None else self._usual_s

    def expected_s(self, owner: str) -> float:
        """Of the next request of `owner`."""
        return self._by_owner.get(owner, self.usual_s)

    def learn(self, owner: str, held_s: float) -> None:
        """A slot was held by `owner` for so long."""
        held_s = max(held_s, LEAST_S)
        self._usual_s = held_s if self._usual_s is None else self._usual_s + _LEARN_SHARE * (held_s - self._usual_s)
        known = self._by_owner.get(owner)
        self._by_owner[owner] = held_s if known is None else known + _LEARN_SHARE * (held_s - known)
        self._by_owner.move_to_end(owner)
        if len(self._by_owner) > OWNERS:
            self._by_owner.popitem(last=False)
