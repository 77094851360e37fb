"""Tickets that wait: the machine's owner before all others, then three tiers, then owners in turn. Pure.

A ticket rises one tier for every `ageing_s` it has waited, so that low never starves: it stands then as one that came
just now to that tier. Counterparts: turns.py orders one tier; admission.py says when there is a slot. requests.md §2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshnode.model.job import Priority
from meshnode.slots.ticket import Ticket
from meshnode.slots.turns import Turns

_TIERS = len(Priority)


@dataclass(slots=True, eq=False)
class _Line:
    """One tier of the owner's tickets, or of the others'; oldest in the tier first."""

    turns: Turns = field(default_factory=Turns)
    tickets: OrderedDict[str, Ticket] = field(default_factory=OrderedDict)


class Queue:
    """Tickets in the order in which they are served. A line is a number: lower is served first, and those of the
    machine's owner are below `OTHERS`."""

    OTHERS = _TIERS

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = max(ageing_s, 1e-3)
        self._lines = [_Line() for _ in range(2 * _TIERS)]
        self._stands: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._stands)

    def __iter__(self) -> Iterator[Ticket]:
        for line in self._lines:
            yield from line.tickets.values()

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._stands

    def line(self, ticket: str) -> int:
        """Where a ticket that waits stands now."""
        return self._stands[ticket]

    @property
    def owners(self) -> int:
        """Accounts that are kept, in all tiers."""
        return sum(line.turns.owners for line in self._lines)

    def push(self, ticket: Ticket, now: float, quantum_s: float) -> None:
        """Append a ticket to its tier."""
        self.rise(now, quantum_s)
        self._enter(ticket, self.first_line(own=ticket.own, priority=ticket.priority), now, quantum_s)

    @staticmethod
    def first_line(*, own: bool, priority: Priority) -> int:
        """Where a ticket stands when it comes."""
        return int(priority) + (0 if own else _TIERS)

    def pop(self, now: float, quantum_s: float, *, only_own: bool = False) -> tuple[Ticket, int] | None:
        """Take the ticket that is served next, and the line it stood in, to `settle` later; None when there is none."""
        self.rise(now, quantum_s)
        for number in range(_TIERS if only_own else 2 * _TIERS):
            line = self._lines[number]
            if line.tickets:
                ticket = line.turns.pop(now, quantum_s)
                del line.tickets[ticket.id]
                del self._stands[ticket.id]
                return ticket, number
        return None

    def settle(self, line: int, owner: str, more_s: float, now: float, quantum_s: float) -> None:
        """What was popped is over: it took `more_s` longer than was expected of it."""
        self._lines[line].turns.settle(owner, more_s, now, quantum_s)

    def remove(self, ticket_id: str, now: float) -> Ticket | None:
        """Take a ticket out wherever it stands; None if it does not wait."""
        number = self._stands.pop(ticket_id, None)
        if number is None:
            return None
        line = self._lines[number]
        ticket = line.tickets.pop(ticket_id)
        line.turns.remove(ticket, now)
        return ticket

    def rise(self, now: float, quantum_s: float) -> None:
        """Lift who has waited long enough. Called before anything is decided, so that lines stay in order of age."""
        if not self._stands:
            return
        for first in (0, _TIERS):
            for tier in range(_TIERS - 1, 0, -1):
                self._lift(first + tier, tier, now, quantum_s)

    def order(self) -> list[Ticket]:
        """Those that wait, next first, as it looks now: whoever comes later may yet go before them."""
        found: list[Ticket] = []
        for line in self._lines:
            starts = sorted(line.turns.starts(), key=lambda start: (start[0], start[1].order))
            found.extend(ticket for _, ticket in starts)
        return found

    def gives_way(self, line: int, owner: str) -> Ticket | None:
        """The ticket that can best make room for one of `owner` in `line`: the newest of those that stand lowest, below
        it; else the newest of the owner in the same line who has most there, and clearly more than `owner`."""
        for number in range(2 * _TIERS - 1, line, -1):
            lower = self._lines[number].tickets
            if lower:
                return max(lower.values(), key=lambda ticket: ticket.order)
        turns = self._lines[line].turns
        most = turns.newest_of_most()
        return most[0] if most is not None and most[1] > turns.waiting(owner) + 1 else None

    def _enter(self, ticket: Ticket, number: int, now: float, quantum_s: float) -> None:
        line = self._lines[number]
        line.tickets[ticket.id] = ticket
        line.turns.push(ticket, now, quantum_s)
        self._stands[ticket.id] = number

    def _lift(self, number: int, tier: int, now: float, quantum_s: float) -> None:
        line = self._lines[number]
        while line.tickets:
            oldest = next(iter(line.tickets.values()))
            if now - oldest.arrived < self._ageing_s * (oldest.priority - tier + 1):
                return
            del line.tickets[oldest.id]
            line.turns.remove(oldest, now)
            self._enter(oldest, number - 1, now, quantum_s)
