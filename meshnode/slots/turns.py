"""Turns among owners by work, not by tickets: deficit round robin. Pure; requests.md §2.

What a request costs is known when it is over, so this is the surplus form: an owner is served while it has credit, its
last ticket may take more than that, and the debt is paid from its next turns. Which tiers have their turn is said from
outside; an owner is one in all of them. Counterparts: ledger.py, which has the credit; queue.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain

from meshnode.model.job import Priority
from meshnode.slots.ledger import Account, Ledger
from meshnode.slots.residency import Fits
from meshnode.slots.ticket import Ticket

Key = Callable[[Ticket], tuple[int, int]]
"""Which of an owner's tickets goes first: less is sooner, and within a tier never a later one."""


@dataclass(slots=True, eq=False)
class _Stand:
    """An owner and its tickets, by tier, oldest first."""

    account: Account
    tiers: tuple[deque[Ticket], ...] = field(default_factory=lambda: tuple(deque() for _ in Priority))

    def waits(self, tiers: Collection[int], fits: Fits | None) -> bool:
        return any(self.firsts(tiers, fits))

    def firsts(self, tiers: Collection[int], fits: Fits | None) -> Iterator[Ticket]:
        """The oldest of each tier, or the oldest that fits."""
        for tier in tiers:
            tickets = self.tiers[tier]
            if fits is None and tickets:
                yield tickets[0]
            elif fits is not None and (ticket := next(filter(fits, tickets), None)) is not None:
                yield ticket


class Turns:
    """Tickets of owners who have accounts in the ledger: it is told elsewhere who comes and leaves (queue.py), and here
    who is served."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stands: dict[str, _Stand] = {}
        # Whose turn it is stands first.
        self._ring: deque[_Stand] = deque()

    def add(self, ticket: Ticket, account: Account) -> None:
        """Append a ticket; an owner of whom nothing waited comes last."""
        stand = self._stands.get(ticket.owner)
        if stand is None:
            stand = self._stands[ticket.owner] = _Stand(account)
            self._ring.append(stand)
        stand.tiers[ticket.priority].append(ticket)

    def take(self, ticket: Ticket) -> Account:
        """Take out a ticket, wherever it stands."""
        stand = self._stands[ticket.owner]
        stand.tiers[ticket.priority].remove(ticket)
        if not any(stand.tiers):
            self._ring.remove(stand)
            del self._stands[ticket.owner]
        return stand.account

    def pop(self, tiers: Collection[int], key: Key, now: float, quantum_s: float, fits: Fits | None = None) -> Ticket:
        """Take the ticket of `tiers` (of those that fit) whose turn it is; its owner is charged what it is expected to
        cost. Raises IndexError when none waits there."""
        stand = self._turn(tiers, quantum_s, fits)
        ticket = min(stand.firsts(tiers, fits), key=key)
        stand.tiers[ticket.priority].remove(ticket)
        account = stand.account
        self._ledger.began(account, ticket.expected_s, now, quantum_s)
        if not any(stand.tiers):
            self._ring.popleft()
            del self._stands[ticket.owner]
        elif account.credit_s <= 0:
            # Over now, and not when the next is asked for: who comes in between comes after.
            account.credit_s += quantum_s
            self._ring.rotate(-1)
        return ticket

    def starts(self, tiers: Collection[int], key: Key) -> Iterator[tuple[float, int, Ticket]]:
        """Every ticket of `tiers` with the work that its owner gets before it, debts included (less is sooner), and its
        number."""
        for stand in self._ring:
            before_s = -stand.account.credit_s
            waiting = [tickets for tier in tiers if (tickets := stand.tiers[tier])]
            for ticket in waiting[0] if len(waiting) == 1 else sorted(chain(*waiting), key=key):
                yield before_s, ticket.order, ticket
                before_s += ticket.expected_s

    def _turn(self, tiers: Collection[int], quantum_s: float, fits: Fits | None) -> _Stand:
        """Pass the turn on until it is with somebody who waits there and has credit; each of those that is passed gets
        a quantum."""
        ring = self._ring
        credits = [stand.account.credit_s for stand in ring if stand.waits(tiers, fits)]
        if not credits:
            raise IndexError("nobody waits")
        if (rounds := int(max(0.0, -max(credits)) / quantum_s)) > 0:
            # Rounds in which nobody would be served are made at once.
            for stand in ring:
                stand.account.credit_s += rounds * quantum_s * stand.waits(tiers, fits)
        while not ((waits := ring[0].waits(tiers, fits)) and ring[0].account.credit_s > 0):
            ring[0].account.credit_s += quantum_s * waits
            ring.rotate(-1)
        return ring[0]
