"""One request for a slot, as it waits. Pure. Counterparts: turns.py and queue.py, which order them."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.model.job import Priority


@dataclass(frozen=True, slots=True)
class Ticket:
    """Times on the monotonic clock, in seconds; `order` counts arrivals; `expected_s` is how long it is thought to hold
    its slot. `own`: it is of the machine's owner, and goes before all others. `model`: by the name that the engine
    gives it, or empty."""

    id: str
    priority: Priority
    owner: str
    deadline: float
    expected_s: float
    arrived: float
    order: int
    own: bool = False
    model: str = ""
