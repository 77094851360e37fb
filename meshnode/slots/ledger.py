"""What each owner may still take, or owes: one account for an owner, whatever tiers its requests stand in.

Pure; requests.md §2. Counterparts: turns.py, which lets owners take turns by it; queue.py.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_DEBT = 64
"""Quanta: what one owner can owe. A request that took longer is forgiven the rest, and nobody is out for ever."""

LEAST_COST = 1 / 32
"""Of a quantum, for each ticket: requests that cost nothing would make a turn without end."""

ACCOUNTS = 1024
"""Owners in debt who are remembered while they ask nothing; of more, who has been away longest is forgiven."""


@dataclass(slots=True, eq=False)
class Account:
    """`credit_s`: work that the owner may still take in this turn; below zero, what it owes. `waiting` of its tickets
    wait, in whatever tier, and `running` hold slots. `idle_since`: when it last had neither."""

    owner: str
    credit_s: float = 0.0
    waiting: int = 0
    running: int = 0
    idle_since: float = 0.0


class Ledger:
    """Accounts by owner. The quantum is handed in: about what one request costs, so that turns change often."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def credit_s(self, owner: str) -> float:
        """What an owner may still take, negative for a debt."""
        account = self._accounts.get(owner)
        return account.credit_s if account is not None else 0.0

    def waits(self, owner: str, now: float, quantum_s: float) -> Account:
        """One more ticket of an owner waits. Debts fade while an owner asks nothing, as fast as one slot works; coming
        and going pays nothing of them."""
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = Account(owner)
            self._forgive()
        if not account.waiting:
            idle_s = max(0.0, now - account.idle_since) if not account.running else 0.0
            debt_s = min(0.0, account.credit_s + idle_s)
            account.credit_s = debt_s or quantum_s
            self._accounts.move_to_end(owner)
        account.waiting += 1
        return account

    def left(self, account: Account, now: float) -> None:
        """One of its tickets waits no more, and got no slot."""
        account.waiting -= 1
        self._rest(account, now)

    def began(self, account: Account, work_s: float, now: float, quantum_s: float) -> None:
        """One of its tickets got a slot, for about `work_s`, which is charged."""
        account.waiting -= 1
        account.running += 1
        self._charge(account, max(work_s, LEAST_COST * quantum_s), quantum_s)
        self._rest(account, now)

    def settle(self, owner: str, more_s: float, now: float, quantum_s: float) -> None:
        """A ticket that began is over, and took `more_s` longer than it was charged."""
        account = self._accounts.get(owner)
        if account is None:
            return
        account.running -= 1
        self._charge(account, more_s, quantum_s)
        self._rest(account, now)

    def _charge(self, account: Account, work_s: float, quantum_s: float) -> None:
        account.credit_s = min(max(account.credit_s - work_s, -MOST_DEBT * quantum_s), quantum_s)

    def _rest(self, account: Account, now: float) -> None:
        """Where nothing of an owner waits, credit is not saved up, and without a debt there is nothing to keep."""
        if account.waiting:
            return
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
