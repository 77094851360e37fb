"""Admission: never over capacity, nobody waits beside a free slot, nobody starves, leaving leaks nothing."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meshnode.model.job import Priority
from meshnode.slots import Admission, Ask, Granted, Leave, Load, Refused, Resident, Resize

NEVER = 1e9


def ask(admission: Admission, name: str, now: float = 0.0, **more: object) -> list[Granted | Refused]:
    return admission.handle(Ask(name, **{"deadline": NEVER, "expected_s": 1.0, **more}), now)  # type: ignore[arg-type]


def full(slots: int = 1, queue_min: int = 2, waiting: int = 0) -> Admission:
    """All slots taken by g0 …, then w0 … in the queue."""
    admission = Admission(slots, queue_min)
    for number in range(slots):
        assert ask(admission, f"g{number}") == [Granted(f"g{number}")]
    for number in range(waiting):
        assert ask(admission, f"w{number}") == []
    return admission


def test_a_slot_given_back_goes_to_the_next() -> None:
    admission = full(waiting=2)
    assert admission.handle(Leave("g0"), 1.0) == [Granted("w0")]
    assert admission.handle(Leave("w0"), 2.0) == [Granted("w1")]
    assert admission.handle(Leave("w1"), 3.0) == []
    assert admission.snapshot(3.0) == Load(1, 0, 0, 0.0)


def test_leaving_the_queue_frees_no_slot() -> None:
    admission = full(waiting=2)
    assert admission.handle(Leave("w0"), 1.0) == []
    assert admission.handle(Leave("g0"), 1.0) == [Granted("w1")]


def test_leaving_twice_does_no_harm() -> None:
    admission = full(waiting=1)
    assert admission.handle(Leave("g0"), 1.0) == [Granted("w0")]
    assert admission.handle(Leave("g0"), 1.0) == []
    assert admission.snapshot(1.0).busy == 1


@pytest.mark.parametrize(("slots", "bound"), [(1, 3), (4, 8)])
def test_the_queue_holds_twice_the_slots_but_no_less_than_the_least(slots: int, bound: int) -> None:
    admission = full(slots, queue_min=3, waiting=bound)
    (refused,) = ask(admission, "late")
    assert isinstance(refused, Refused)
    assert (refused.ticket, refused.reason) == ("late", "full")
    assert refused.retry_after_s >= 1.0


def test_who_wants_a_slot_at_once_gets_one_or_does_not_wait() -> None:
    admission = Admission(1, 2)
    assert ask(admission, "first", at_once=True) == [Granted("first")]
    (refused,) = ask(admission, "second", at_once=True)
    assert isinstance(refused, Refused)
    assert (refused.ticket, refused.reason) == ("second", "busy")
    assert refused.retry_after_s >= 1.0
    assert admission.snapshot(0.0).queued == 0
    assert ask(admission, "third") == [], "others may wait"
    assert admission.handle(Leave("first"), 1.0) == [Granted("third")]


def test_a_higher_tier_takes_the_place_of_the_newest_lowest() -> None:
    admission = full(queue_min=2)
    ask(admission, "low1", priority=Priority.LOW)
    ask(admission, "low2", priority=Priority.LOW)
    (refused,) = ask(admission, "high", priority=Priority.HIGH)
    assert isinstance(refused, Refused)
    assert (refused.ticket, refused.reason) == ("low2", "displaced")
    assert admission.handle(Leave("g0"), 1.0) == [Granted("high")]
    assert admission.handle(Leave("high"), 1.0) == [Granted("low1")]


def test_a_ticket_that_would_come_too_late_is_refused_at_once() -> None:
    admission = Admission(1, 8)
    ask(admission, "g", expected_s=10.0)
    ask(admission, "w", expected_s=10.0)
    assert ask(admission, "patient", deadline=20.0) == []
    (refused,) = ask(admission, "hasty", deadline=19.0)
    assert isinstance(refused, Refused)
    assert refused.reason == "deadline"


def test_lower_tiers_are_not_ahead_of_a_higher_one() -> None:
    admission = Admission(1, 8)
    ask(admission, "g", expected_s=10.0)
    ask(admission, "w", expected_s=10.0, priority=Priority.LOW)
    assert ask(admission, "high", deadline=11.0, priority=Priority.HIGH) == []


def test_a_ticket_whose_deadline_passed_in_the_queue_gets_no_slot() -> None:
    admission = full()
    ask(admission, "w0", deadline=5.0)
    ask(admission, "w1")
    found = admission.handle(Leave("g0"), 6.0)
    assert [type(command) for command in found] == [Refused, Granted]
    assert [command.ticket for command in found] == ["w0", "w1"]


def test_growing_grants_and_shrinking_takes_nothing_back() -> None:
    admission = full(waiting=2)
    assert admission.handle(Resize(3), 1.0) == [Granted("w0"), Granted("w1")]
    assert admission.handle(Resize(1), 1.0) == []
    assert admission.snapshot(1.0).busy == 3
    ask(admission, "x", 1.0)
    assert admission.handle(Leave("w0"), 1.0) == []
    assert admission.handle(Leave("w1"), 1.0) == []
    assert admission.handle(Leave("g0"), 1.0) == [Granted("x")]


def test_everyone_waits_while_the_engine_starts() -> None:
    admission = Admission(0, 4)
    assert ask(admission, "early") == []
    assert admission.handle(Resize(1), 30.0) == [Granted("early")]


def test_how_long_slots_are_held_is_learnt() -> None:
    admission = Admission(1, 8)
    now = 0.0
    for number in range(30):
        ask(admission, f"t{number}", now, expected_s=0.0)
        now += 2.0
        admission.handle(Leave(f"t{number}"), now)
    ask(admission, "running", now, expected_s=0.0)
    assert abs(admission.snapshot(now).expected_wait_s - 2.0) < 0.01


def test_an_id_in_use_is_refused_loudly() -> None:
    admission = full(waiting=1)
    for name in ("g0", "w0"):
        with pytest.raises(ValueError, match="in use"):
            ask(admission, name)


def test_low_gets_its_turn_in_a_stream_of_high() -> None:
    admission = Admission(1, 8)
    ask(admission, "running")
    ask(admission, "low", priority=Priority.LOW)
    running, now = "running", 0.0
    while running != "low":
        now += 1.0
        ask(admission, f"high{now}", now, priority=Priority.HIGH)
        (granted,) = admission.handle(Leave(running), now)
        running = granted.ticket
        assert now <= 65.0


class Service(RuleBasedStateMachine):
    """Any sequence of events, beside a plain account of who holds and who waits."""

    @initialize(slots=st.integers(0, 4), queue_min=st.integers(0, 4))
    def begin(self, slots: int, queue_min: int) -> None:
        self.slots = slots
        self.admission = Admission(slots, queue_min, ageing_s=20.0)
        self.now = 0.0
        self.asks: dict[str, Ask] = {}
        self.waiting: list[str] = []
        self.granted: set[str] = set()
        self.count = 0

    def perform(self, event: Ask | Leave | Resize | Resident) -> None:
        bound = self.admission.queue_bound
        before = len(self.granted)
        for command in self.admission.handle(event, self.now):
            name = command.ticket
            self.waiting.remove(name)
            if isinstance(command, Refused):
                assert 1.0 <= command.retry_after_s <= 60.0
                assert command.reason != "full" or len(self.waiting) >= bound
                continue
            asked = self.asks[name]
            elders = [self.asks[other] for other in self.asks if other in self.waiting and self.older(other, name)]
            alike = (asked.owner, asked.priority, asked.model)
            assert all((e.owner, e.priority, e.model) != alike for e in elders), "first come, first served"
            self.granted.add(name)
            assert len(self.granted) <= max(self.slots, before)

    def older(self, one: str, other: str) -> bool:
        return int(one) < int(other)

    @rule(
        priority=st.sampled_from(Priority),
        owner=st.sampled_from("ab"),
        left_s=st.floats(-1, 60),
        expected_s=st.sampled_from([0.0, 0.5, 10.0]),
        model=st.sampled_from("pq"),
    )
    def ask(self, priority: Priority, owner: str, left_s: float, expected_s: float, model: str) -> None:
        self.count += 1
        name = str(self.count)
        self.asks[name] = Ask(name, self.now + left_s, priority, owner, expected_s, model=model)
        self.waiting.append(name)
        self.perform(self.asks[name])

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.asks)))
        self.granted.discard(name)
        if name in self.waiting:
            self.waiting.remove(name)
        self.perform(Leave(name))

    @rule(models=st.none() | st.frozensets(st.sampled_from("pq")))
    def hear_what_is_loaded(self, models: frozenset[str] | None) -> None:
        self.perform(Resident(models))

    @rule(slots=st.integers(0, 4))
    def resize(self, slots: int) -> None:
        self.slots = slots
        self.perform(Resize(slots))

    @rule(seconds=st.floats(0, 30))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def accounts_agree_and_nobody_waits_beside_a_free_slot(self) -> None:
        if not hasattr(self, "admission"):
            return
        load = self.admission.snapshot(self.now)
        assert (load.busy, load.queued) == (len(self.granted), len(self.waiting))
        assert load.free == max(0, self.slots - len(self.granted))
        assert not (load.free and load.queued)
        assert load.expected_wait_s >= 0.0
        assert not load.free or load.expected_wait_s == 0.0

    def teardown(self) -> None:
        """Whoever still waits is served (or told that it is late) when the others leave, and nothing remains."""
        if not hasattr(self, "admission"):
            return
        self.slots = 1
        self.perform(Resize(1))
        while self.granted:
            name = self.granted.pop()
            self.perform(Leave(name))
        assert self.waiting == []
        assert self.admission.snapshot(self.now) == Load(1, 0, 0, 0.0)


TestService = Service.TestCase
TestService.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
