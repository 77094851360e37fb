"""Turns by work: who asks for much waits longer, debts are paid and bounded, and nothing is left of who went away."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.job import Priority
from meshnode.slots.ledger import ACCOUNTS, MOST_DEBT, Ledger
from meshnode.slots.ticket import Ticket
from meshnode.slots.turns import Turns

QUANTUM_S = 1.0
NORMAL = (Priority.NORMAL,)


def in_order(ticket: Ticket) -> tuple[int, int]:
    return (0, ticket.order)


class Line:
    """Turns, and a count of what each owner got."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.turns = Turns(self.ledger)
        self.count = 0
        self.work: dict[str, float] = {}

    def push(self, owner: str, expected_s: float = 1.0, now: float = 0.0, tier: Priority = Priority.NORMAL) -> Ticket:
        self.count += 1
        ticket = Ticket(str(self.count), tier, owner, 1e9, expected_s, now, self.count)
        self.turns.add(ticket, self.ledger.waits(owner, now, QUANTUM_S))
        return ticket

    def take(self, ticket: Ticket) -> None:
        self.ledger.left(self.turns.take(ticket), 0.0)

    def pop(self, now: float = 0.0, took_s: float | None = None, tiers: tuple[Priority, ...] = NORMAL) -> str:
        ticket = self.turns.pop(tiers, in_order, now, QUANTUM_S)
        took_s = ticket.expected_s if took_s is None else took_s
        self.ledger.settle(ticket.owner, took_s - ticket.expected_s, now, QUANTUM_S)
        self.work[ticket.owner] = self.work.get(ticket.owner, 0.0) + took_s
        return ticket.owner


def test_owners_get_the_same_work_however_large_their_requests_are() -> None:
    line = Line()
    for owner, expected_s in (("large", 8.0), ("small", 0.5), ("usual", 1.0)):
        line.push(owner, expected_s)
    for _ in range(3000):
        owner = line.pop()
        line.push(owner, {"large": 8.0, "small": 0.5, "usual": 1.0}[owner])
        line.push(owner, {"large": 8.0, "small": 0.5, "usual": 1.0}[owner])
    assert max(line.work.values()) - min(line.work.values()) <= 2 * 8.0


def test_what_a_request_took_counts_and_not_what_was_expected() -> None:
    line = Line()
    for owner in "ab" * 400:
        line.push(owner)
    served = []
    for _ in range(400):
        ticket = line.turns.pop(NORMAL, in_order, 0.0, QUANTUM_S)
        served.append(ticket.owner)
        line.ledger.settle(ticket.owner, 2.0 if ticket.owner == "a" else 0.0, 0.0, QUANTUM_S)
    assert served.count("b") == pytest.approx(3 * served.count("a"), rel=0.05)


def test_a_debt_outlives_an_empty_queue_and_fades_while_its_owner_is_away() -> None:
    line = Line()
    line.push("a")
    line.pop(took_s=21.0)
    assert line.ledger.credit_s("a") == -20.0
    line.push("a", now=5.0)
    line.push("b", now=5.0)
    assert line.ledger.credit_s("a") == -15.0
    assert line.pop(5.0) == "b"


def test_coming_and_going_pays_no_debt() -> None:
    line = Line()
    line.push("a")
    line.pop(took_s=11.0)
    for _ in range(20):
        line.take(line.push("a"))
    assert line.ledger.credit_s("a") == -10.0


def test_nobody_is_remembered_without_a_debt() -> None:
    line = Line()
    for number in range(50):
        line.push(f"o{number}", 0.5)
    for _ in range(50):
        line.pop()
    assert len(line.ledger) == 0


def test_work_in_one_tier_is_owed_in_every_other() -> None:
    line = Line()
    for owner in "ab":
        line.push(owner, tier=Priority.HIGH)
    for owner in "abab":
        line.push(owner, tier=Priority.LOW)
    high, low = (Priority.HIGH,), (Priority.LOW,)
    assert [line.pop(took_s=6.0, tiers=high), line.pop(took_s=1.0, tiers=high)] == ["a", "b"]
    assert [line.pop(tiers=low) for _ in range(4)] == ["b", "b", "a", "a"]


def test_who_waits_in_another_tier_is_passed_over_and_gains_nothing() -> None:
    line = Line()
    line.push("a", tier=Priority.LOW)
    for _ in range(9):
        line.push("b")
    for _ in range(9):
        assert line.pop() == "b"
    assert line.ledger.credit_s("a") <= QUANTUM_S
    assert line.pop(tiers=(Priority.LOW,)) == "a"


def test_a_thousand_owners_in_debt_are_the_most() -> None:
    line = Line()
    for number in range(3 * ACCOUNTS):
        line.push(f"o{number}")
        line.pop(took_s=5.0)
    assert len(line.ledger) <= ACCOUNTS + 1


@given(st.data())
def test_credit_is_bounded_and_work_is_conserved(data: st.DataObject) -> None:
    line, rng, waiting = Line(), Random(data.draw(st.integers(0, 2**32))), 0
    owners = "abcd"[: data.draw(st.integers(1, 4))]
    for now in range(data.draw(st.integers(1, 200))):
        if waiting and rng.random() < 0.5:
            line.pop(float(now), took_s=rng.choice([0.0, 0.3, 2.0, 500.0]))
            waiting -= 1
        else:
            line.push(rng.choice(owners), rng.choice([0.001, 1.0, 40.0]), float(now))
            waiting += 1
        assert all(-MOST_DEBT * QUANTUM_S <= line.ledger.credit_s(owner) <= QUANTUM_S for owner in owners)
        assert len(list(line.turns.starts(NORMAL, in_order))) == waiting
    for _ in range(waiting):
        line.pop()
    with pytest.raises(IndexError):
        line.pop()
