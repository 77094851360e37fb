"""Tickets that wait: three tiers, owners of one tier in turn, each owner's own in order of arrival. Pure.

A ticket rises one tier for every `ageing_s` it has waited, so that low never starves; among tickets risen to the same
tier the older goes first. Counterpart: admission.py, which says when there is a slot. requests.md §2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from meshnode.model.job import Priority


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request for a slot. Times on the monotonic clock, in seconds; `order` counts arrivals."""

    id: str
    priority: Priority
    owner: str
    deadline: float
    expected_s: float
    arrived: float
    order: int


class Queue:
    """Tickets in the order in which they are served. Owners take turns by ticket; taking turns by work done (deficit
    round robin) needs only another `_next_of`."""

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = max(ageing_s, 1e-3)
        self._tickets: dict[str, Ticket] = {}
        self._tiers: dict[Priority, dict[str, deque[Ticket]]] = {priority: {} for priority in Priority}

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets.values())

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._tickets

    def tier(self, ticket: Ticket, now: float) -> int:
        """Where a ticket stands after waiting: 0 is served first."""
        return max(0, ticket.priority - int((now - ticket.arrived) / self._ageing_s))

    def push(self, ticket: Ticket) -> None:
        """Append a ticket."""
        self._tickets[ticket.id] = ticket
        self._tiers[ticket.priority].setdefault(ticket.owner, deque()).append(ticket)

    def pop(self, now: float) -> Ticket:
        """Take the ticket that is served next; its owner's turn in the tier is over. Raises IndexError when empty."""
        heads = [self._next_of(owners) for owners in self._tiers.values() if owners]
        if not heads:
            raise IndexError("no ticket waits")
        ticket = min(heads, key=lambda head: (self.tier(head, now), head.order))
        owners = self._tiers[ticket.priority]
        waiting = owners.pop(ticket.owner)
        waiting.popleft()
        if waiting:
            owners[ticket.owner] = waiting
        del self._tickets[ticket.id]
        return ticket

    def remove(self, ticket_id: str) -> Ticket | None:
        """Take a ticket out wherever it stands; None if it does not wait."""
        ticket = self._tickets.pop(ticket_id, None)
        if ticket is None:
            return None
        owners = self._tiers[ticket.priority]
        owners[ticket.owner].remove(ticket)
        if not owners[ticket.owner]:
            del owners[ticket.owner]
        return ticket

    def last_below(self, tier: int, now: float) -> Ticket | None:
        """The ticket that can best give way to one of `tier`: the newest of those that stand lowest, below it."""
        lower = [ticket for ticket in self if self.tier(ticket, now) > tier]
        return max(lower, key=lambda ticket: (self.tier(ticket, now), ticket.order), default=None)

    @staticmethod
    def _next_of(owners: dict[str, deque[Ticket]]) -> Ticket:
        return next(iter(owners.values()))[0]
