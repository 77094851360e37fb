"""Tickets that wait: the machine's owner before all others, then three tiers, then owners in turn. Pure.

A tier rises by one for every `ageing_s` that its oldest ticket has waited, so that low never starves. It rises as a
whole: were it only the old tickets, those who ask for long work, whose tickets grow old, would pass those who ask for
little. Counterparts: turns.py orders owners; ledger.py; admission.py says when there is a slot. requests.md §2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, filterfalse

from meshnode.model.job import Priority
from meshnode.slots.ledger import Ledger
from meshnode.slots.residency import Fits, Residency
from meshnode.slots.ticket import Ticket
from meshnode.slots.turns import Key, Turns

_TIERS = len(Priority)


@dataclass(slots=True, eq=False)
class _Side:
    """The tickets of the machine's owner, or of the others, by tier; oldest first."""

    turns: Turns
    tiers: tuple[dict[str, Ticket], ...] = field(default_factory=lambda: tuple({} for _ in Priority))


class Queue:
    """Tickets in the order in which they are served. A line is a number that says how high a ticket stands by its own
    age: lower is higher, and those of the machine's owner are below `OTHERS`."""

    OTHERS = _TIERS

    def __init__(self, ageing_s: float, residency: Residency | None = None) -> None:
        self._ageing_s = max(ageing_s, 1e-3)
        self._residency = residency if residency is not None else Residency()
        self._ledger = Ledger()
        self._sides = (_Side(Turns(self._ledger)), _Side(Turns(self._ledger)))
        self._tickets: dict[str, Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets.values())

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._tickets

    @property
    def owners(self) -> int:
        """Accounts that are kept."""
        return len(self._ledger)

    def line(self, ticket: Ticket, now: float) -> int:
        """Where a ticket stands by now."""
        return self._tier(ticket, now) + (0 if ticket.own else _TIERS)

    @staticmethod
    def first_line(*, own: bool, priority: Priority) -> int:
        """Where a ticket stands when it comes."""
        return int(priority) + (0 if own else _TIERS)

    def push(self, ticket: Ticket, now: float, quantum_s: float) -> None:
        """Append a ticket to its tier."""
        side = self._side(ticket)
        side.turns.add(ticket, self._ledger.waits(ticket.owner, now, quantum_s))
        side.tiers[ticket.priority][ticket.id] = self._tickets[ticket.id] = ticket

    def pop(self, now: float, quantum_s: float, *, only_own: bool = False) -> Ticket | None:
        """Take the ticket that is served next, to `settle` later; None when there is none."""
        for side in self._sides[: 1 if only_own else 2]:
            for tiers in self._in_turn(side, now):
                ticket = side.turns.pop(tiers, self._key(now), now, quantum_s, self._first(side, tiers, now))
                del side.tiers[ticket.priority][ticket.id]
                del self._tickets[ticket.id]
                return ticket
        return None

    def settle(self, owner: str, more_s: float, now: float, quantum_s: float) -> None:
        """What was popped is over: it took `more_s` longer than was expected of it."""
        self._ledger.settle(owner, more_s, now, quantum_s)

    def remove(self, ticket_id: str, now: float) -> Ticket | None:
        """Take a ticket out wherever it stands; None if it does not wait."""
        ticket = self._tickets.pop(ticket_id, None)
        if ticket is None:
            return None
        side = self._side(ticket)
        del side.tiers[ticket.priority][ticket_id]
        self._ledger.left(side.turns.take(ticket), now)
        return ticket

    def order(self, now: float) -> list[Ticket]:
        """Those that wait, next first, as it looks now: whoever comes later may yet go before them."""
        found: list[Ticket] = []
        for side in self._sides:
            for tiers in self._in_turn(side, now):
                in_turn = [ticket for _, _, ticket in sorted(side.turns.starts(tiers, self._key(now)))]
                fits = self._first(side, tiers, now)
                if fits is not None:
                    in_turn = [*filter(fits, in_turn), *filterfalse(fits, in_turn)]
                found.extend(in_turn)
        return found

    def gives_way(self, line: int, owner: str, now: float) -> Ticket | None:
        """The ticket that can best make room for one of `owner` in `line`: the newest of those that stand lowest, below
        it; else the newest of the owner in the same line who has most there, and clearly more than `owner`."""
        lowest = max(self._tickets.values(), key=lambda one: (self.line(one, now), one.order), default=None)
        if lowest is None or self.line(lowest, now) > line:
            return lowest
        there = [one for one in self._tickets.values() if self.line(one, now) == line]
        counts = Counter(one.owner for one in there)
        if not counts:
            return None
        most, many = counts.most_common(1)[0]
        if many <= counts[owner] + 1:
            return None
        return max((one for one in there if one.owner == most), key=lambda one: one.order)

    def _first(self, side: _Side, tiers: tuple[int, ...], now: float) -> Fits | None:
        """Which of some tiers go before the others, since their models are loaded."""
        return self._residency.first(chain.from_iterable(side.tiers[tier].values() for tier in tiers), now)

    def _side(self, ticket: Ticket) -> _Side:
        return self._sides[0 if ticket.own else 1]

    def _tier(self, ticket: Ticket, now: float) -> int:
        """By its own age."""
        return max(0, ticket.priority - int((now - ticket.arrived) / self._ageing_s))

    def _key(self, now: float) -> Key:
        return lambda ticket: (self._tier(ticket, now), ticket.order)

    def _in_turn(self, side: _Side, now: float) -> list[tuple[int, ...]]:
        """Tiers of which something waits, those that stand alike together, the highest first."""
        waiting = [tier for tier, tickets in enumerate(side.tiers) if tickets]
        if len(waiting) < 2:
            return [tuple(waiting)] if waiting else []
        oldest = [next(iter(side.tiers[tier].values())) for tier in waiting]
        alike: dict[int, list[int]] = {}
        for tier, ticket in zip(waiting, oldest, strict=True):
            alike.setdefault(self._tier(ticket, now), []).append(tier)
        return [tuple(alike[stands]) for stands in sorted(alike)]
