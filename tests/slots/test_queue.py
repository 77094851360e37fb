"""The order of service: tiers, turns among owners, rising with age."""

from __future__ import annotations

import pytest

from meshnode.model.job import Priority
from meshnode.slots.queue import Queue
from meshnode.slots.ticket import Ticket

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW
QUANTUM_S = 1.0
"""As much as each ticket costs here, so that owners take turns by ticket."""


def queue_of(*asked: tuple[str, Priority, str, float]) -> Queue:
    queue = Queue(30.0)
    for order, (name, priority, owner, arrived) in enumerate(asked):
        queue.push(Ticket(name, priority, owner, 1e9, 1.0, arrived, order), arrived, QUANTUM_S)
    return queue


def pop(queue: Queue, now: float) -> str:
    found = queue.pop(now, QUANTUM_S)
    assert found is not None
    return found.id


def served(queue: Queue, now: float) -> list[str]:
    return [pop(queue, now) for _ in range(len(queue))]


def test_higher_tiers_first_and_arrival_within_a_tier() -> None:
    queue = queue_of(("l", LOW, "", 0), ("n1", NORMAL, "", 0), ("h", HIGH, "", 1), ("n2", NORMAL, "", 1))
    assert served(queue, 1.0) == ["h", "n1", "n2", "l"]


def test_owners_take_turns_within_a_tier() -> None:
    asked = [("a1", NORMAL, "a", 0), ("a2", NORMAL, "a", 0), ("a3", NORMAL, "a", 0), ("b1", NORMAL, "b", 0)]
    assert served(queue_of(*asked, ("c1", NORMAL, "c", 0)), 1.0) == ["a1", "b1", "c1", "a2", "a3"]


def test_an_owner_whose_turn_is_over_waits_behind_the_others() -> None:
    queue = queue_of(("a1", NORMAL, "a", 0), ("a2", NORMAL, "a", 0), ("b1", NORMAL, "b", 0), ("b2", NORMAL, "b", 0))
    assert pop(queue, 1.0) == "a1"
    queue.push(Ticket("c1", NORMAL, "c", 1e9, 1.0, 1.0, 9), 1.0, QUANTUM_S)
    assert served(queue, 1.0) == ["b1", "a2", "c1", "b2"]


@pytest.mark.parametrize(("now", "order"), [(59.0, ["h", "l"]), (60.0, ["l", "h"])])
def test_a_low_ticket_passes_new_high_ones_after_two_ageings(now: float, order: list[str]) -> None:
    assert served(queue_of(("l", LOW, "", 0), ("h", HIGH, "", now)), now) == order


def test_a_tier_whose_oldest_is_old_rises_as_a_whole() -> None:
    asked = [("old1", NORMAL, "long", 0), ("old2", NORMAL, "long", 0), ("young", NORMAL, "short", 29)]
    queue = queue_of(*asked, ("high", HIGH, "other", 29))
    assert served(queue, 30.0) == ["old1", "young", "high", "old2"], "young takes the turn that old tickets made"
    assert served(queue_of(*asked, ("high", HIGH, "other", 29)), 29.0) == ["high", "old1", "young", "old2"]


def test_an_owner_that_waits_long_does_not_lose_its_debt_by_it() -> None:
    queue = queue_of(("a1", NORMAL, "a", 0), *((f"a{n}", NORMAL, "a", 0) for n in (2, 3)))
    assert pop(queue, 0.0) == "a1"
    queue.settle("a", 20.0, 0.0, QUANTUM_S)
    for number in range(10):
        queue.push(Ticket(f"b{number}", NORMAL, "b", 1e9, 1.0, 1.0, 10 + number), 1.0, QUANTUM_S)
    assert served(queue, 40.0)[:10] == [f"b{number}" for number in range(10)], "old as its tickets are"


def test_the_one_to_give_way_is_the_newest_of_the_lowest() -> None:
    queue = queue_of(("l1", LOW, "", 0), ("l2", LOW, "", 0), ("n", NORMAL, "", 0))
    high, normal = (Queue.first_line(own=False, priority=tier) for tier in (HIGH, NORMAL))
    now = 1.0
    for name in ("l2", "l1", "n"):
        found = queue.gives_way(high, "x", now)
        assert found is not None and found.id == name
        assert (queue.gives_way(normal, "x", now) is None) == (name == "n")
        if name != "n":
            queue.remove(name, 1.0)
    now = 31.0
    assert queue.gives_way(high, "x", now) is None, "an aged ticket stands as high as a new high one"


def test_who_has_most_in_the_queue_gives_way_to_who_has_clearly_less() -> None:
    queue = queue_of(("a1", NORMAL, "a", 0), ("a2", NORMAL, "a", 0), ("b1", NORMAL, "b", 0))
    line = Queue.first_line(own=False, priority=NORMAL)
    found = queue.gives_way(line, "c", 1.0)
    assert found is not None and found.id == "a2"
    assert queue.gives_way(line, "b", 1.0) is None, "then b would have two, and a one"
    assert queue.gives_way(line, "a", 1.0) is None


def test_the_machines_owner_goes_before_every_tier_of_others() -> None:
    queue = queue_of(("h", HIGH, "a", 0), ("n", NORMAL, "a", 0))
    queue.push(Ticket("own", LOW, "me", 1e9, 1.0, 1.0, 9, own=True), 1.0, QUANTUM_S)
    assert [ticket.id for ticket in queue.order(1.0)] == ["own", "h", "n"]
    assert served(queue, 1.0) == ["own", "h", "n"]


def test_others_are_passed_over_while_only_the_owners_may_be_served() -> None:
    queue = queue_of(("h", HIGH, "a", 0))
    assert queue.pop(1.0, QUANTUM_S, only_own=True) is None
    assert pop(queue, 1.0) == "h"


def test_removing_leaves_nothing_behind() -> None:
    queue = queue_of(("a1", LOW, "a", 0), ("a2", LOW, "a", 0))
    assert queue.remove("a1", 0.0) is not None
    assert queue.remove("a1", 0.0) is None
    assert served(queue, 0.0) == ["a2"]
    assert queue.pop(0.0, QUANTUM_S) is None
    assert queue.order(0.0) == []
