"""The order of service: tiers, turns among owners, rising with age."""

from __future__ import annotations

import pytest

from meshnode.model.job import Priority
from meshnode.slots.queue import Queue, Ticket

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


def queue_of(*asked: tuple[str, Priority, str, float]) -> Queue:
    queue = Queue(30.0)
    for order, (name, priority, owner, arrived) in enumerate(asked):
        queue.push(Ticket(name, priority, owner, 1e9, 1.0, arrived, order))
    return queue


def served(queue: Queue, now: float) -> list[str]:
    return [queue.pop(now).id for _ in range(len(queue))]


def test_higher_tiers_first_and_arrival_within_a_tier() -> None:
    queue = queue_of(("l", LOW, "", 0), ("n1", NORMAL, "", 0), ("h", HIGH, "", 1), ("n2", NORMAL, "", 1))
    assert served(queue, 1.0) == ["h", "n1", "n2", "l"]


def test_owners_take_turns_within_a_tier() -> None:
    asked = [("a1", NORMAL, "a", 0), ("a2", NORMAL, "a", 0), ("a3", NORMAL, "a", 0), ("b1", NORMAL, "b", 0)]
    assert served(queue_of(*asked, ("c1", NORMAL, "c", 0)), 1.0) == ["a1", "b1", "c1", "a2", "a3"]


def test_an_owner_whose_turn_is_over_waits_behind_the_others() -> None:
    queue = queue_of(("a1", NORMAL, "a", 0), ("a2", NORMAL, "a", 0), ("b1", NORMAL, "b", 0), ("b2", NORMAL, "b", 0))
    assert queue.pop(1.0).id == "a1"
    queue.push(Ticket("c1", NORMAL, "c", 1e9, 1.0, 1.0, 9))
    assert served(queue, 1.0) == ["b1", "a2", "c1", "b2"]


@pytest.mark.parametrize(("now", "order"), [(59.0, ["h", "l"]), (60.0, ["l", "h"])])
def test_a_low_ticket_passes_new_high_ones_after_two_ageings(now: float, order: list[str]) -> None:
    assert served(queue_of(("l", LOW, "", 0), ("h", HIGH, "", 50)), now) == order


def test_the_one_to_give_way_is_the_newest_of_the_lowest() -> None:
    queue = queue_of(("l1", LOW, "", 0), ("l2", LOW, "", 0), ("n", NORMAL, "", 0))
    last = queue.last_below(HIGH, 1.0)
    assert last is not None and last.id == "l2"
    queue.remove("l2")
    queue.remove("l1")
    last = queue.last_below(HIGH, 1.0)
    assert last is not None and last.id == "n"
    assert queue.last_below(NORMAL, 1.0) is None
    assert queue.last_below(HIGH, 31.0) is None, "an aged ticket stands as high as a new high one"


def test_removing_leaves_nothing_behind() -> None:
    queue = queue_of(("a1", LOW, "a", 0), ("a2", LOW, "a", 0))
    assert queue.remove("a1") is not None
    assert queue.remove("a1") is None
    assert served(queue, 0.0) == ["a2"]
    with pytest.raises(IndexError):
        queue.pop(0.0)
