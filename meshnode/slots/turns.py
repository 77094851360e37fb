"""Turns among the owners of one tier by work, not by tickets: deficit round robin. Pure; requests.md §2.

What a request costs is known when it is over, so this is the surplus form: an owner is served while it has credit, its
last ticket may take more than that, and the debt is paid from its next turns. An owner's own go in order of arrival.
Counterpart: queue.py, which has one of these for each tier.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshnode.slots.ticket import Ticket

MOST_DEBT = 64
"""Quanta: what one owner can owe. A request that took longer is forgiven the rest, and nobody is out for ever."""

LEAST_COST = 1 / 32
"""Of a quantum, for each ticket: requests that cost nothing would make a turn without end."""

ACCOUNTS = 1024
"""Owners in debt who are remembered while they ask nothing; of more, who has been away longest is forgiven."""


@dataclass(slots=True, eq=False)
class _Account:
    """`credit_s`: work that the owner may still take in this turn; below zero, what it owes. `running` of its tickets
    hold slots. `idle_since`: when it last had neither those nor any that wait."""

    owner: str
    credit_s: float = 0.0
    waiting: deque[Ticket] = field(default_factory=deque)
    running: int = 0
    idle_since: float = 0.0


class Turns:
    """Tickets of one tier. The quantum is handed in: about what one request costs, so that turns change often."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        # Owners of whom something waits; whose turn it is stands first.
        self._ring: deque[_Account] = deque()

    @property
    def owners(self) -> int:
        """How many are remembered."""
        return len(self._accounts)

    def credit_s(self, owner: str) -> float:
        """What an owner may still take, negative for a debt."""
        account = self._accounts.get(owner)
        return account.credit_s if account is not None else 0.0

    def waiting(self, owner: str) -> int:
        """How many tickets of an owner wait here."""
        account = self._accounts.get(owner)
        return len(account.waiting) if account is not None else 0

    def push(self, ticket: Ticket, now: float, quantum_s: float) -> None:
        """Append a ticket; an owner of whom nothing waited comes last. Debts fade while an owner asks nothing, as fast
        as one slot works; coming and going pays nothing of them."""
        account = self._accounts.get(ticket.owner)
        if account is None:
            account = self._accounts[ticket.owner] = _Account(ticket.owner)
            self._forgive()
        if not account.waiting:
            idle_s = max(0.0, now - account.idle_since) if not account.running else 0.0
            debt_s = min(0.0, account.credit_s + idle_s)
            account.credit_s = debt_s or quantum_s
            self._accounts.move_to_end(ticket.owner)
            self._ring.append(account)
        account.waiting.append(ticket)

    def pop(self, now: float, quantum_s: float) -> Ticket:
        """Take the ticket whose turn it is; its owner is charged what it is expected to cost. Raises IndexError when
        none waits."""
        account = self._turn(quantum_s)
        ticket = account.waiting.popleft()
        account.running += 1
        self._charge(account, max(ticket.expected_s, LEAST_COST * quantum_s), quantum_s)
        if not account.waiting:
            self._ring.popleft()
            self._rest(account, now)
        elif account.credit_s <= 0:
            # Over now, and not when the next is asked for: who comes in between comes after.
            account.credit_s += quantum_s
            self._ring.rotate(-1)
        return ticket

    def settle(self, owner: str, more_s: float, now: float, quantum_s: float) -> None:
        """A ticket that was popped is over, and took `more_s` longer than it was charged."""
        account = self._accounts.get(owner)
        if account is None:
            return
        account.running -= 1
        self._charge(account, more_s, quantum_s)
        if not account.waiting:
            self._rest(account, now)

    def remove(self, ticket: Ticket, now: float) -> None:
        """Take out a ticket that waits here."""
        account = self._accounts[ticket.owner]
        account.waiting.remove(ticket)
        if not account.waiting:
            self._ring.remove(account)
            self._rest(account, now)

    def newest_of_most(self) -> tuple[Ticket, int] | None:
        """The newest ticket of the owner of whom most wait, and how many that is."""
        most = max(self._ring, key=lambda account: len(account.waiting), default=None)
        return (most.waiting[-1], len(most.waiting)) if most is not None else None

    def starts(self) -> Iterator[tuple[float, Ticket]]:
        """Every ticket with the work its owner gets before it, debts included: less is sooner."""
        for account in self._ring:
            before_s = -account.credit_s
            for ticket in account.waiting:
                yield before_s, ticket
                before_s += ticket.expected_s

    def _turn(self, quantum_s: float) -> _Account:
        """Pass the turn on until it is with somebody who has credit; each that is passed gets a quantum."""
        if self._ring[0].credit_s <= 0:
            # Rounds in which nobody would be served are made at once.
            rounds = int(max(0.0, -max(account.credit_s for account in self._ring)) / quantum_s)
            for account in self._ring if rounds else ():
                account.credit_s += rounds * quantum_s
        while self._ring[0].credit_s <= 0:
            self._ring[0].credit_s += quantum_s
            self._ring.rotate(-1)
        return self._ring[0]

    def _charge(self, account: _Account, work_s: float, quantum_s: float) -> None:
        account.credit_s = min(max(account.credit_s - work_s, -MOST_DEBT * quantum_s), quantum_s)

    def _rest(self, account: _Account, now: float) -> None:
        """Nothing of this owner waits any more: credit is not saved up, and without a debt there is nothing to keep."""
        account.credit_s = min(0.0, account.credit_s)
        if not account.running:
            account.idle_since = now
            if account.credit_s == 0.0:
                del self._accounts[account.owner]

    def _forgive(self) -> None:
        if len(self._accounts) > ACCOUNTS:
            idle = (a for a in self._accounts.values() if not a.waiting and not a.running)
            found = next(idle, None)
            if found is not None:
                del self._accounts[found.owner]
