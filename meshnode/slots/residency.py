"""Which models an engine that loads on request has in memory, and so which requests go before others. Pure.

A change of model costs seconds to minutes, so within a tier requests for what is there go first. Those for something
else are passed for `AGE_S`, and until what was loaded last has had `TENURE_S`; nobody waits while a slot is free.
Loading and evicting are the engine's. Not for engines whose models are always there. Counterpart: queue.py.
requests.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from meshnode.slots.ticket import Ticket

AGE_S = 10.0
"""A request is passed by those for models that are loaded for so long at most: about what loading 5 GB from a disk
takes, so that waiting at most doubles it."""

TENURE_S = 15.0
"""What was loaded stays for so long while there is work for it: requests.md §2."""

Fits = Callable[[Ticket], bool]


class Residency:
    """What one engine has in memory, as it told last and as was asked of it since."""

    def __init__(self) -> None:
        self._told: frozenset[str] | None = None
        self._loading = ""
        self._since = -inf

    def told(self, models: frozenset[str] | None) -> None:
        """The engine has these loaded now; None: it does not load on request."""
        self._told = models
        if models is None or self._loading in models:
            self._loading = ""

    def began(self, model: str, now: float) -> None:
        """A request for `model` is with the engine, which loads it where it has not."""
        if not self.has(model):
            self._loading, self._since = model, now

    def ended(self, model: str) -> None:
        """A request for `model` is over: what it had to load is there, until the engine says otherwise."""
        if model and model == self._loading:
            self._told, self._loading = frozenset((model,)), ""

    def has(self, model: str) -> bool:
        """Whether a request for `model` needs no loading. While one is being loaded the others may be making room."""
        if self._told is None or not model:
            return True
        return model == self._loading if self._loading else model in self._told

    def first(self, waiting: Iterable[Ticket], now: float) -> Fits | None:
        """Which of those that wait go before the others now; None where they go in their order."""
        if self._told is None:
            return None
        some = False
        for ticket in waiting:
            if self.has(ticket.model):
                some = True
            elif now >= max(ticket.arrived + AGE_S, self._since + TENURE_S):
                return None
        return self._fits if some else None

    def _fits(self, ticket: Ticket) -> bool:
        return self.has(ticket.model)
