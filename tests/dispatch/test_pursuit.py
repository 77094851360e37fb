"""The machine of one request, in every order of answers, failures and wakings: one end, and asking within bounds."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshnode.dispatch.doubt import DoubtAfter
from meshnode.dispatch.pursuit import Pursuit, Rules
from meshnode.dispatch.pursuit_events import (
    Answered,
    Begin,
    Command,
    Drop,
    Failed,
    Fault,
    Lose,
    Mute,
    Quiet,
    Role,
    Try,
    Why,
    Win,
    Woke,
)
from meshnode.routing import Attempt
from meshnode.routing.budget import Budgets, HedgeBudget, RetryBudget
from tests.routing.build import node

FULL, BROKEN, FINAL = Fault.FULL, Fault.BROKEN, Fault.FINAL


class Servers:
    """In the place of a Course: servers by number, `most` of them; a way that was cut is tried again."""

    def __init__(self, *numbers: int, most: int = 3) -> None:
        self.waiting = deque(self.attempt(number) for number in numbers)
        self.most = most
        self.number = 0
        self.redirects = 0
        self.refused: deque[Attempt] = deque()

    @staticmethod
    def attempt(number: int) -> Attempt:
        return Attempt(node(number), "m", (node(0), node(number)), None)  # type: ignore[arg-type] # nobody looks

    def next(self) -> Attempt | None:
        if self.number >= self.most + self.redirects or not self.waiting:
            return None
        self.number += 1
        return self.waiting.popleft()

    @property
    def may_redirect(self) -> bool:
        return bool(self.waiting) and self.redirects < 2

    @property
    def more(self) -> bool:
        return bool(self.waiting) and self.number < self.most + self.redirects

    def redirected(self, attempt: Attempt) -> None:
        self.redirects += 1
        self.refused.append(attempt)

    def after_all(self) -> Attempt | None:
        if self.number >= self.most + self.redirects or not self.refused:
            return None
        self.number += 1
        return self.refused.popleft()

    def failed(self, attempt: Attempt, *, cut: bool = False) -> None:
        if cut:
            self.waiting.append(attempt)


def pursuit(
    *numbers: int, at_once: int = 1, late_s: float | None = None, load: float = 0.0, most: int = 3,
    retries: RetryBudget | None = None, doubts: RetryBudget | None = None, saved: int = 100,
    slots_at_once: bool = False, patience_s: float | None = None, busy_s: float | None = None, besides: bool = True,
) -> Pursuit:  # fmt: skip
    hedges = HedgeBudget(0.02)
    for _ in range(saved):
        hedges.request()
    patience = DoubtAfter(patience_s, busy_s or patience_s) if patience_s is not None else None
    rules = Rules(
        at_once,
        lambda _: late_s,
        lambda: load,
        0.7,
        0.1,
        lambda _: slots_at_once,
        lambda *_: patience,
        5.0,
        lambda _: load < 1.0,
        besides,
    )
    course: Any = Servers(*numbers, most=most)
    budget = retries or RetryBudget(0.2, 10.0, 1.0)
    return Pursuit(course, rules, Budgets(budget, hedges, doubts or RetryBudget(0.2, 10.0, 1.0)), Random(1))


def shape(commands: list[Command]) -> list[Any]:
    return [(c.number, c.role) if isinstance(c, Try) else c for c in commands]


def test_the_first_answer_wins() -> None:
    machine = pursuit(1, 2)
    assert shape(machine.handle(Begin(), 0.0)) == [(1, Role.FIRST)]
    assert machine.handle(Answered(1), 1.0) == [Win(1)]
    assert machine.handle(Failed(1, BROKEN), 2.0) == []


def test_the_next_is_asked_at_once_and_no_more_than_two() -> None:
    machine = pursuit(1, 2, 3, 4)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Failed(1, BROKEN), 0.0)) == [(2, Role.RETRY)]
    assert shape(machine.handle(Failed(2, FULL), 0.0)) == [(3, Role.RETRY)]
    assert machine.handle(Failed(3, BROKEN), 0.0) == [Lose(Why.NOBODY)]


def test_what_no_server_would_mend_ends_it() -> None:
    machine = pursuit(1, 2)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Failed(1, FINAL), 0.0) == [Lose(Why.FINAL)]


def test_where_too_much_is_retried_nothing_more_is() -> None:
    spent = RetryBudget(0.2, 10.0, 1.0)
    while spent.spend(0.0):
        pass
    machine = pursuit(1, 2, retries=spent)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Failed(1, BROKEN), 0.0) == [Lose(Why.BUDGET)]


@pytest.mark.parametrize("cut", [True, False])
def test_the_same_server_is_not_asked_again_at_once(cut: bool) -> None:
    machine = pursuit(1, *([] if cut else [1]))
    machine.handle(Begin(), 0.0)
    assert machine.handle(Failed(1, BROKEN, cut=cut), 5.0) == []
    wakeup = machine.next_wakeup()
    assert wakeup is not None
    assert 5.05 <= wakeup <= 5.15
    assert machine.handle(Woke(), 5.0) == []
    assert shape(machine.handle(Woke(), wakeup)) == [(2, Role.RETRY)]


def test_a_server_whose_relay_went_down_is_asked_by_another_way_at_once() -> None:
    machine = pursuit(1)
    machine.handle(Begin(), 0.0)
    around = Servers.attempt(1)._replace(path=(node(0), node(7), node(1)))
    machine._course.waiting.append(around)  # type: ignore[attr-defined] # Servers
    assert machine.handle(Failed(1, BROKEN), 5.0) == [Try(2, around, Role.RETRY)]


def test_a_mesh_that_is_full_everywhere_is_given_a_moment() -> None:
    machine = pursuit(1, 2, 3)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Failed(1, FULL), 0.0)) == [(2, Role.RETRY)]
    assert machine.handle(Failed(2, FULL), 0.0) == []
    assert machine.next_wakeup() is not None


def test_a_late_first_is_hedged_and_the_loser_dropped() -> None:
    machine = pursuit(1, 2, late_s=2.0)
    machine.handle(Begin(), 0.0)
    assert machine.next_wakeup() == 2.0
    assert shape(machine.handle(Woke(), 2.0)) == [(2, Role.HEDGE)]
    assert machine.hedged
    assert machine.handle(Answered(2), 3.0) == [Drop(1), Win(2)]


def test_a_hedge_that_fails_leaves_the_first_running() -> None:
    machine = pursuit(1, 2, 3, late_s=2.0)
    machine.handle(Begin(), 0.0)
    machine.handle(Woke(), 2.0)
    assert machine.handle(Failed(2, BROKEN), 3.0) == []
    assert machine.handle(Answered(1), 4.0) == [Win(1)]


def test_the_busy_and_the_spent_are_not_hedged() -> None:
    busy = pursuit(1, 2, late_s=2.0, load=0.71)
    busy.handle(Begin(), 0.0)
    assert busy.handle(Woke(), 2.0) == []
    assert busy.next_wakeup() is None
    spent = pursuit(1, 2, late_s=2.0, saved=10)
    spent.handle(Begin(), 0.0)
    assert spent.next_wakeup() is None


def test_racers_start_together_and_one_is_delivered() -> None:
    machine = pursuit(1, 2, 3, at_once=3)
    assert shape(machine.handle(Begin(), 0.0)) == [(n, Role.RACER) for n in (1, 2, 3)]
    assert machine.handle(Failed(1, FINAL), 0.5) == []
    assert machine.handle(Answered(3), 1.0) == [Drop(2), Win(3)]
    assert machine.raced == 3


def test_a_server_without_a_slot_costs_neither_an_attempt_nor_a_moment() -> None:
    machine = pursuit(1, 2, 3, 4, 5, 6, slots_at_once=True)
    (first,) = machine.handle(Begin(), 0.0)
    assert isinstance(first, Try) and first.at_once
    (second,) = machine.handle(Failed(1, FULL), 0.0)
    assert isinstance(second, Try) and second.at_once
    (third,) = machine.handle(Failed(2, FULL), 0.0)
    assert isinstance(third, Try) and not third.at_once, "the third is to let it wait"
    assert shape(machine.handle(Failed(3, BROKEN), 0.0)) == [(4, Role.RETRY)]
    assert shape(machine.handle(Failed(4, BROKEN), 0.0)) == [(5, Role.RETRY)]
    assert machine.handle(Failed(5, BROKEN), 0.0) == [Lose(Why.NOBODY)], "three were really asked"


def test_a_server_without_a_slot_at_once_is_waited_for_where_all_others_fail() -> None:
    machine = pursuit(1, 2, slots_at_once=True)
    (first,) = machine.handle(Begin(), 0.0)
    assert isinstance(first, Try) and first.at_once
    assert shape(machine.handle(Failed(1, FULL), 0.0)) == [(2, Role.RETRY)]
    assert machine.handle(Failed(2, BROKEN), 1.0) == []
    wakeup = machine.next_wakeup()
    assert wakeup is not None
    (again,) = machine.handle(Woke(), wakeup)
    assert isinstance(again, Try)
    assert (again.number, again.attempt, again.at_once) == (3, first.attempt, False)
    assert machine.handle(Failed(3, FULL), 2.0) == [Lose(Why.NOBODY)]


def test_the_last_server_is_not_asked_for_a_slot_at_once() -> None:
    (only,) = pursuit(1, slots_at_once=True).handle(Begin(), 0.0)
    assert isinstance(only, Try) and not only.at_once


def test_slots_are_asked_for_at_once_only_with_a_retry_in_hand_which_an_answer_gives_back() -> None:
    budget = RetryBudget(0.2, 10.0, 1.0)
    running = []
    for _ in range(8):
        running.append(pursuit(1, 2, retries=budget, slots_at_once=True))
        (order,) = running[-1].handle(Begin(), 0.0)
        assert isinstance(order, Try)
        assert order.at_once == (len(running) <= 7), "of ten, three are for failures"
    assert running[0].handle(Answered(1), 1.0) == [Win(1)]
    (order,) = pursuit(1, 2, retries=budget, slots_at_once=True).handle(Begin(), 1.0)
    assert isinstance(order, Try) and order.at_once


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens: one end, bounded attempts, nothing asked after it, nobody left running but dropped."""

    @initialize(
        servers=st.lists(st.integers(1, 4), min_size=0, max_size=6), at_once=st.integers(1, 4),
        late_s=st.none() | st.floats(0.1, 3.0), load=st.sampled_from([0.0, 0.9]), most=st.integers(1, 4),
        spent=st.integers(0, 12), slots_at_once=st.booleans(), patience_s=st.none() | st.floats(0.1, 3.0),
    )  # fmt: skip
    def begin(
        self, servers: list[int], at_once: int, late_s: float | None, load: float, most: int, spent: int,
        slots_at_once: bool, patience_s: float | None,
    ) -> None:  # fmt: skip
        self.budget = RetryBudget(0.2, 10.0, 1.0)
        self.left = 10 - sum(self.budget.spend(0.0) for _ in range(spent))
        self.machine = pursuit(
            *servers,
            at_once=at_once,
            late_s=late_s,
            load=load,
            most=most,
            retries=self.budget,
            slots_at_once=slots_at_once,
            patience_s=patience_s,
        )
        self.now, self.most, self.load = 0.0, most, load
        self.running: set[int] = set()
        self.tries: list[Try] = []
        self.ends: list[Win | Lose] = []
        self.perform(self.machine.handle(Begin(), 0.0))

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            assert not self.ends
            match command:
                case Try(number):
                    self.running.add(number)
                    self.tries.append(command)
                case Drop(number):
                    self.running.remove(number)
                case Win() | Lose():
                    self.ends.append(command)

    @rule(number=st.integers(1, 6))
    def answered(self, number: int) -> None:
        known = number in self.running
        self.running.discard(number)
        commands = self.machine.handle(Answered(number), self.now)
        assert (Win(number) in commands) == (known and not self.over())
        self.perform(commands)

    @rule(number=st.integers(1, 6), fault=st.sampled_from(Fault), cut=st.booleans())
    def failed(self, number: int, fault: Fault, cut: bool) -> None:
        self.running.discard(number)
        self.perform(self.machine.handle(Failed(number, fault, cut), self.now))

    @rule(number=st.integers(1, 6))
    def quiet(self, number: int) -> None:
        self.perform(self.machine.handle(Quiet(number), self.now))

    @rule(number=st.integers(1, 6))
    def mute(self, number: int) -> None:
        self.perform(self.machine.handle(Mute(number), self.now))

    @rule(later_s=st.floats(0.0, 2.0))
    def woke(self, later_s: float) -> None:
        self.now += later_s
        self.perform(self.machine.handle(Woke(), self.now))

    @precondition(lambda self: self.machine.next_wakeup() is not None)
    @rule()
    def woke_when_asked(self) -> None:
        self.now = max(self.now, self.machine.next_wakeup() or 0.0)
        self.perform(self.machine.handle(Woke(), self.now))

    def over(self) -> bool:
        return bool(self.ends)

    @invariant()
    def keeps_within_bounds(self) -> None:
        assert (
            len(self.tries) == self.machine.made <= self.most + (2 if any(order.at_once for order in self.tries) else 0)
        )
        retries = [order for order in self.tries if order.role is Role.RETRY]
        assert self.now >= 9.0 or len(retries) <= self.left
        assert len([order for order in self.tries if order.role is Role.HEDGE]) <= (0 if self.load > 0.7 else 1)

    @invariant()
    def never_stands_still(self) -> None:
        assert self.ends or self.running or self.machine.next_wakeup() is not None
        assert not (self.ends and self.running)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])


def test_who_says_nothing_is_left_running_while_another_is_asked() -> None:
    machine = pursuit(1, 2, 3)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Quiet(1), 2.5)) == [(2, Role.DOUBT)]
    assert machine.handle(Quiet(1), 3.0) == []
    assert machine.handle(Answered(2), 3.1) == [Drop(1), Win(2)]
    assert machine.hung == {1}


def test_who_says_that_its_engine_is_mute_is_left_running_and_not_blamed_while_another_is_asked() -> None:
    machine = pursuit(1, 2, 3)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Mute(1), 1.2)) == [(2, Role.DOUBT)]
    assert machine.handle(Mute(1), 1.3) == []
    assert machine.handle(Answered(2), 1.4) == [Drop(1), Win(2)]
    assert not machine.hung


def test_while_nobody_has_a_slot_to_spare_a_mute_engine_is_waited_for() -> None:
    machine = pursuit(1, 2, 3, load=1.0)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Mute(1), 1.2) == []


def test_who_said_nothing_may_still_answer_first() -> None:
    machine = pursuit(1, 2)
    machine.handle(Begin(), 0.0)
    machine.handle(Quiet(1), 2.5)
    assert machine.handle(Answered(1), 3.0) == [Drop(2), Win(1)]


def test_without_another_whoever_says_nothing_is_waited_for() -> None:
    machine = pursuit(1)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Quiet(1), 2.5) == [] and machine.next_wakeup() is None
    assert machine.handle(Answered(1), 100.0) == [Win(1)]


def test_who_takes_far_longer_than_predicted_is_doubted_one_after_the_other() -> None:
    machine = pursuit(1, 2, 3, 4, patience_s=10.0)
    machine.handle(Begin(), 0.0)
    assert machine.next_wakeup() == 10.0
    assert shape(machine.handle(Woke(), 10.0)) == [(2, Role.DOUBT)]
    assert machine.next_wakeup() == 15.0, "its user has waited already: the next has half the time"
    assert shape(machine.handle(Woke(), 15.0)) == [(3, Role.DOUBT)]
    assert machine.next_wakeup() is None
    assert machine.handle(Answered(3), 16.0) == [Drop(1), Drop(2), Win(3)]
    assert machine.hung == {1, 2}


def test_who_is_asked_in_doubt_is_asked_for_a_slot_at_once() -> None:
    machine = pursuit(1, 2, 3, 4, 5, patience_s=2.0, slots_at_once=True)
    machine.handle(Begin(), 0.0)
    (second,) = machine.handle(Woke(), 2.0)
    assert second == Try(2, Servers.attempt(2), Role.DOUBT, at_once=True)
    assert shape(machine.handle(Failed(2, FULL), 2.1)) == [(3, Role.RETRY)]


def test_whoever_joins_a_server_that_is_waited_for_does_not_put_off_the_doubt_in_it() -> None:
    machine = pursuit(1, 2, 3, patience_s=2.0, late_s=1.5)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Woke(), 1.5)) == [(2, Role.HEDGE)]
    assert machine.next_wakeup() == 2.0
    assert machine.handle(Quiet(1), 1.6) == [], "the other may answer"
    assert machine.next_wakeup() == 2.0
    assert shape(machine.handle(Woke(), 2.0)) == [(3, Role.DOUBT)]


def test_one_that_is_asked_after_a_failure_has_all_the_time() -> None:
    machine = pursuit(1, 2, 3, patience_s=2.0)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Failed(1, BROKEN), 1.9)) == [(2, Role.RETRY)]
    assert machine.next_wakeup() == pytest.approx(3.9)


def test_while_nobody_has_a_slot_to_spare_a_late_one_is_given_more_time() -> None:
    machine = pursuit(1, 2, 3, patience_s=1.5, busy_s=10.0, load=1.0)
    machine.handle(Begin(), 0.0)
    assert machine.next_wakeup() == 1.5
    assert machine.handle(Woke(), 1.5) == []
    assert machine.next_wakeup() == 10.0
    assert shape(machine.handle(Woke(), 10.0)) == [(2, Role.DOUBT)]
    assert machine.hung == {1}


def test_while_somebody_has_a_slot_to_spare_a_late_one_is_doubted_early_and_not_blamed() -> None:
    machine = pursuit(1, 2, 3, patience_s=1.5, busy_s=10.0, load=0.9)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Woke(), 1.5)) == [(2, Role.DOUBT)]
    assert machine.handle(Answered(2), 1.7) == [Drop(1), Win(2)]
    assert not machine.hung


def test_a_request_that_only_one_server_may_read_at_a_time_waits_for_its_end() -> None:
    machine = pursuit(1, 2, patience_s=1.5, besides=False)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Quiet(1), 1.0) == []
    assert machine.handle(Woke(), 1.5) == []
    assert shape(machine.handle(Failed(1, BROKEN), 15.0)) == [(2, Role.RETRY)]


def test_a_client_in_haste_blames_nobody() -> None:
    machine = pursuit(1, 2, patience_s=1.0)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Woke(), 1.0)) == [(2, Role.DOUBT)]
    assert not machine.hung


def spent_budget() -> RetryBudget:
    spent = RetryBudget(0.2, 10.0, 1.0)
    while spent.spend(0.0):
        pass
    return spent


def test_doubts_have_a_budget_of_their_own_while_somebody_has_a_slot_to_spare() -> None:
    machine = pursuit(1, 2, retries=spent_budget())
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Quiet(1), 0.1)) == [(2, Role.DOUBT)]
    machine = pursuit(1, 2, retries=spent_budget(), load=1.0)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Quiet(1), 0.1) == []
    machine = pursuit(1, 2, doubts=spent_budget(), load=1.0)
    machine.handle(Begin(), 0.0)
    assert shape(machine.handle(Quiet(1), 0.1)) == [(2, Role.DOUBT)]


def test_who_is_asked_in_doubt_may_refuse_though_no_retry_is_left() -> None:
    machine = pursuit(1, 2, 3, retries=spent_budget(), slots_at_once=True)
    machine.handle(Begin(), 0.0)
    assert machine.handle(Quiet(1), 0.1) == [Try(2, Servers.attempt(2), Role.DOUBT, at_once=True)]
    assert machine.handle(Failed(2, FULL), 0.2) == []
    assert machine.next_wakeup() == pytest.approx(1.2)


def test_what_was_set_aside_is_given_back_however_it_ends() -> None:
    budget = RetryBudget(0.2, 10.0, 1.0)

    def ask() -> Pursuit:
        machine = pursuit(1, 2, retries=budget, slots_at_once=True)
        (order,) = machine.handle(Begin(), 0.0)
        assert isinstance(order, Try) and order.at_once, "there is a retry to set aside"
        return machine

    for _ in range(20):
        ask().leave()
    for _ in range(20):
        assert shape(ask().handle(Failed(1, FINAL), 0.0)) == [Lose(Why.FINAL)]
    hangs = [ask() for _ in range(7)]
    for machine in hangs:
        machine.handle(Quiet(1), 0.1)
    ask()


def test_doubts_are_bounded() -> None:
    machine = pursuit(1, 2, doubts=spent_budget())
    machine.handle(Begin(), 0.0)
    assert machine.handle(Quiet(1), 0.1) == []
    assert machine.next_wakeup() == pytest.approx(1.1), "looked at again, once more may be retried"
    assert machine.handle(Woke(), 1.1) == []
    machine.handle(Woke(), 2.1)
    assert shape(machine.handle(Woke(), 11.0)) == [(2, Role.DOUBT)]
    assert machine.handle(Answered(1), 11.1) == [Drop(2), Win(1)]


def test_one_that_hangs_is_waited_for_only_where_no_other_is_left() -> None:
    machine = pursuit(1, 2, 3)
    machine.handle(Begin(), 0.0)
    machine.handle(Quiet(1), 2.5)
    assert shape(machine.handle(Failed(2, BROKEN), 3.0)) == [(3, Role.RETRY)]
    assert machine.handle(Failed(3, BROKEN), 4.0) == []
    assert machine.handle(Failed(1, BROKEN), 15.0) == [Lose(Why.NOBODY)]


def test_what_no_server_would_mend_ends_it_while_another_hangs() -> None:
    machine = pursuit(1, 2)
    machine.handle(Begin(), 0.0)
    machine.handle(Quiet(1), 2.5)
    assert machine.handle(Failed(2, FINAL), 3.0) == [Drop(1), Lose(Why.FINAL)]
