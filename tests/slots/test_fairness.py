"""Terms of a machine's owner under any sequence of events: slots kept, the owner first, nobody unwelcome, no leaks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks.admission import Demand, run
from meshnode.model.job import Priority
from meshnode.model.takes import Takes
from meshnode.slots import Admission, Ask, Granted, Leave, Resize, Terms

OWNER = "owner:ann"


class Household(RuleBasedStateMachine):
    """Admission beside a plain account of who holds and who waits."""

    @initialize(slots=st.integers(0, 4), queue_min=st.integers(0, 6))
    def begin(self, slots: int, queue_min: int) -> None:
        self.slots, self.now, self.count = slots, 0.0, 0
        self.terms = Terms(OWNER, first=True, reserved=1)
        self.admission = Admission(slots, queue_min, ageing_s=20.0, terms=self.terms)
        self.asked: dict[str, Ask] = {}
        self.waiting: set[str] = set()
        self.granted: set[str] = set()

    def own(self, name: str) -> bool:
        return self.asked[name].owner == OWNER

    def foreign(self) -> int:
        return sum(not self.own(name) for name in self.granted)

    def welcome(self, name: str) -> bool:
        return self.terms.takes is Takes.EVERYBODYS or (self.terms.takes is Takes.OWN and self.own(name))

    def perform(self, event: Ask | Leave | Resize | Terms) -> None:
        for command in self.admission.handle(event, self.now):
            name = command.ticket
            self.waiting.remove(name)
            if not isinstance(command, Granted):
                continue
            assert self.welcome(name)
            self.granted.add(name)
            assert len(self.granted) <= self.slots
            if not self.own(name):
                assert self.foreign() <= max(1, self.slots - self.terms.reserved)
                assert not any(self.own(other) for other in self.waiting), "the owner goes first"

    @rule(
        priority=st.sampled_from(Priority),
        owner=st.sampled_from([OWNER, "a", "b"]),
        left_s=st.floats(-1, 90),
        expected_s=st.sampled_from([0.0, 0.5, 10.0]),
    )
    def ask(self, priority: Priority, owner: str, left_s: float, expected_s: float) -> None:
        self.count += 1
        name = str(self.count)
        self.asked[name] = Ask(name, self.now + left_s, priority, owner, expected_s)
        self.waiting.add(name)
        self.perform(self.asked[name])

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        self.granted.discard(name)
        self.waiting.discard(name)
        self.perform(Leave(name))

    @rule(slots=st.integers(0, 4))
    def resize(self, slots: int) -> None:
        self.slots = slots
        self.perform(Resize(slots))

    @rule(reserved=st.integers(0, 3), takes=st.sampled_from(Takes))
    def agree(self, reserved: int, takes: Takes) -> None:
        self.terms = Terms(OWNER, first=True, reserved=reserved, takes=takes)
        self.perform(self.terms)

    @rule(seconds=st.floats(0, 30))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "admission"):
            return
        load, others = (self.admission.snapshot(self.now, own=own) for own in (True, False))
        assert (load.busy, load.queued) == (len(self.granted), len(self.waiting))
        assert not (load.free and any(self.own(name) for name in self.waiting))
        assert not (others.free and self.waiting)
        assert others.free <= load.free
        told = self.admission.waiting(self.now)
        assert [one.position for one in told] == list(range(1, len(self.waiting) + 1))
        assert all(self.admission.position(one.ticket, self.now) == one.position for one in told)
        assert all(self.welcome(name) for name in self.waiting)

    def teardown(self) -> None:
        """Cancelled in every phase, nothing is left."""
        if not hasattr(self, "admission"):
            return
        for name in sorted(self.asked):
            self.granted.discard(name)
            self.waiting.discard(name)
            self.perform(Leave(name))
            self.granted.discard(name)
        load = self.admission.snapshot(self.now)
        assert (load.free, load.busy, load.queued) == (self.slots, 0, 0)
        assert self.waiting == self.granted == set()


TestHousehold = Household.TestCase
TestHousehold.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)


def test_nobody_starves_and_the_owner_waits_for_one_slot_at_most() -> None:
    found = run(Demand(jobs=10_000, seed=7))
    assert found.owner_late_s <= 1e-6, "longer than the slot that was free first"
    assert not found.refused
    assert all(found.granted[tier] > 2000 for tier in Priority)
    assert found.longest_s[Priority.LOW] < 300.0


@pytest.mark.parametrize("ageing_s", [1e9, 30.0])
def test_owners_of_large_and_small_requests_get_the_same_work_however_long_they_wait(ageing_s: float) -> None:
    found = run(Demand(jobs=5_000, seed=7, in_hand=10, tiers=(Priority.NORMAL,), ageing_s=ageing_s))
    assert found.shares_apart < 1.25, "requests of 1 s and of 16 s: by tickets it would be 16"
    assert found.most_accounts <= 9


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), ageing_s=st.sampled_from([5.0, 30.0, 120.0]), in_hand=st.integers(2, 8))
def test_in_any_mix_of_tiers_everybody_is_served_in_bounded_time(seed: int, ageing_s: float, in_hand: int) -> None:
    """Eight owners with so many requests in hand, of 5 s in the middle and 16 s at most, on three slots."""
    found = run(Demand(jobs=1_500, seed=seed, ageing_s=ageing_s, in_hand=in_hand))
    assert not found.passed_deadline
    assert not found.refused
    assert max(found.longest_s.values()) < 2 * ageing_s + 60.0 * in_hand
    assert found.owner_late_s <= 1e-6
