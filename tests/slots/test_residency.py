"""Requests for models that are loaded go first, for a while, and only among their equals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.job import Priority
from meshnode.slots import Admission, Ask, Granted, Leave, Resident
from meshnode.slots.residency import AGE_S, TENURE_S, Residency
from meshnode.slots.ticket import Ticket

NEVER = 1e9


def ticket(model: str, arrived: float = 0.0) -> Ticket:
    return Ticket(f"{model}{arrived}", Priority.NORMAL, "", NEVER, 1.0, arrived, int(arrived), model=model)


def one_slot(models: frozenset[str] | None, running: str = "p") -> Admission:
    """The slot is taken by g, for `running`."""
    admission = Admission(1, 100)
    admission.handle(Resident(models), 0.0)
    assert admission.handle(Ask("g", NEVER, expected_s=1.0, model=running), 0.0) == [Granted("g")]
    return admission


def wait(admission: Admission, name: str, model: str, now: float = 0.0, **more: object) -> None:
    ask = Ask(name, **{"deadline": NEVER, "expected_s": 1.0, "model": model, **more})  # type: ignore[arg-type]
    assert admission.handle(ask, now) == []


def served(admission: Admission, running: str, now: float, step_s: float = 0.0) -> list[str]:
    """Who gets the slot from now on, one after the other, each holding it for `step_s`."""
    found: list[str] = []
    while commands := admission.handle(Leave(running), now):
        running = commands[0].ticket
        found.append(running)
        now += step_s
    return found


def test_requests_for_what_is_loaded_go_first_and_then_those_for_one_other_model_together() -> None:
    admission = one_slot(frozenset("p"))
    for name, model in [("q1", "q"), ("p1", "p"), ("r1", "r"), ("q2", "q"), ("p2", "p")]:
        wait(admission, name, model)
    assert [one.ticket for one in admission.waiting(0.0)] == ["p1", "p2", "q1", "r1", "q2"]
    assert served(admission, "g", 1.0) == ["p1", "p2", "q1", "q2", "r1"]


def test_an_engine_whose_models_are_always_there_is_served_in_order() -> None:
    admission = one_slot(None)
    for name in ("q1", "p1", "q2", "p2"):
        wait(admission, name, name[0])
    assert served(admission, "g", 1.0) == ["q1", "p1", "q2", "p2"]


def test_a_request_is_not_passed_for_ever() -> None:
    admission = one_slot(frozenset("p"))
    wait(admission, "q", "q")
    for number in range(20):
        wait(admission, f"p{number}", "p")
    order = served(admission, "g", 1.0, step_s=1.0)
    assert order.index("q") == AGE_S - 1


def test_what_was_loaded_for_a_request_stays_for_a_while() -> None:
    admission = one_slot(frozenset("p"), running="q")
    for number in range(30):
        wait(admission, f"p{number}", "p")
        wait(admission, f"q{number}", "q")
    order = served(admission, "g", 1.0, step_s=1.0)
    assert order[:14] == [f"q{number}" for number in range(14)], "until q has been there for 15 s"
    assert order[14] == "p0"
    assert order[15:29] == [f"p{number}" for number in range(1, 15)]


def test_nobody_waits_for_a_model_while_a_slot_is_free() -> None:
    admission = one_slot(frozenset("p"))
    wait(admission, "q", "q")
    assert served(admission, "g", 0.1) == ["q"]


def test_a_higher_tier_goes_first_whatever_is_loaded() -> None:
    admission = one_slot(frozenset("p"))
    wait(admission, "p1", "p")
    wait(admission, "q1", "q", priority=Priority.HIGH)
    assert served(admission, "g", 1.0) == ["q1", "p1"]


def test_owners_take_turns_among_those_whose_model_is_loaded() -> None:
    asked = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("a4", "a"), ("b1", "b"), ("b2", "b")]
    orders: list[list[str]] = []
    for models in (frozenset("p"), None):
        admission = one_slot(models)
        wait(admission, "c1", "q", owner="c", priority=Priority.NORMAL if models else Priority.LOW)
        for name, owner in asked:
            wait(admission, name, "p", owner=owner)
        orders.append(served(admission, "g", 1.0, step_s=1.0))
    assert orders[0] == orders[1]
    assert orders[0].index("b1") < orders[0].index("a4")


def test_while_a_model_is_being_loaded_the_others_may_be_making_room() -> None:
    residency = Residency()
    residency.told(frozenset("p"))
    residency.began("q", 0.0)
    residency.told(frozenset("p"))
    assert (residency.has("q"), residency.has("p")) == (True, False)
    residency.told(frozenset("pq"))
    assert (residency.has("q"), residency.has("p")) == (True, True)


def test_what_had_to_be_loaded_is_there_until_the_engine_says_otherwise() -> None:
    residency = Residency()
    residency.told(frozenset("p"))
    residency.began("q", 0.0)
    residency.ended("q")
    assert (residency.has("q"), residency.has("p")) == (True, False)
    residency.told(frozenset("p"))
    assert (residency.has("q"), residency.has("p")) == (False, True)


def test_a_request_whose_model_nobody_names_needs_no_loading() -> None:
    residency = Residency()
    residency.told(frozenset())
    assert residency.has("")
    residency.began("", 0.0)
    assert not residency.has("p")


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.floats(0, 60)), max_size=8), st.floats(0, 60), st.floats(0, 60))
def test_whoever_waited_long_enough_is_passed_by_nobody(
    waiting: list[tuple[str, float]], loaded_at: float, waits_s: float
) -> None:
    residency = Residency()
    residency.told(frozenset())
    residency.began("p", loaded_at)
    tickets = [ticket(model, arrived) for model, arrived in waiting]
    now = loaded_at + waits_s
    fits = residency.first(tickets, now)
    due = [one for one in tickets if one.model != "p" and now - one.arrived >= AGE_S and now - loaded_at >= TENURE_S]
    some = any(one.model == "p" for one in tickets)
    if fits is None:
        assert due or not some
    else:
        assert not [one for one in due if now - one.arrived > AGE_S + 1e-6 and waits_s > TENURE_S + 1e-6]
        assert [one.model for one in tickets if fits(one)] == ["p"] * sum(one.model == "p" for one in tickets)
