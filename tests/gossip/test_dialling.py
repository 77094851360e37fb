"""What is dialled when, and what becomes of a target that was dialled in vain."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshnode.config.mesh import MeshSection
from meshnode.gossip.book import Book
from meshnode.gossip.dialling import ASK_AFTER, GIVE_UP, Dialling
from meshnode.gossip.hints import HINT_S, TRIES
from meshnode.gossip.learning import Learning
from meshnode.gossip.neighbourhood import Held, Neighbourhood
from meshnode.gossip.overlay_events import AskToDial, Command, Dial
from meshnode.gossip.targets import DAY_S, Key, Kind, Target
from meshnode.gossip.views import Views
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id

ME, A, B, C = (node_id(number) for number in range(4))
HERE, THERE = b"here", b"there"
SECTION = MeshSection()


def dialling(**settings: object) -> Dialling:
    section = replace(SECTION, **settings)  # type: ignore[arg-type]
    rng = random.Random(1)
    book = Book(ME, HERE, section.dial_learned)
    near = Neighbourhood(section, rng, book, Views(section, rng), lambda _: b"")
    return Dialling(section, rng, book, near, Learning(rng, book, near))


def put(made: Dialling, key: Key, kind: Kind, *told: str, due: float = 0.0, **more: object) -> Target:
    target = Target(kind, told or (str(key),), due, **more)  # type: ignore[arg-type]
    made.book.targets[key] = target
    return target


def advert(node: NodeId, *addresses: str, host: bytes = THERE) -> Advert:
    return Advert(node, MESH, 1, 1, 180, host=host, addresses=addresses)


def dialled(commands: list[Command]) -> list[Key]:
    return [command.target for command in commands if isinstance(command, Dial)]


def asked(commands: list[Command]) -> list[NodeId]:
    return [command.peer for command in commands if isinstance(command, AskToDial)]


# What is dialled.


def test_what_is_due_is_dialled_once_and_the_rest_says_when() -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    put(made, A, Kind.KNOWN, "b:1", due=5.0)
    assert made.begin(0.0) == [Dial("a:1", ("a:1",))]
    assert made.begin(1.0) == []
    assert min(due for due in made.dues() if due is not None) == 5.0
    assert dialled(made.begin(5.0)) == [A]


def test_who_is_linked_is_left_alone_whatever_it_is_called() -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    put(made, A, Kind.KNOWN, "b:1")
    made.book.behind["a:1"] = A
    made.near.linked[A] = Held(0.0)
    assert made.begin(0.0) == []
    del made.near.linked[A]
    assert dialled(made.begin(0.0)) == ["a:1"]


def test_an_address_that_led_to_oneself_is_not_dialled() -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    made.book.behind["a:1"] = ME
    assert made.begin(0.0) == []


def test_who_is_in_quarantine_waits_for_its_end() -> None:
    made = dialling(quarantine_s=60.0)
    put(made, A, Kind.KNOWN, "a:1")
    made.quarantine.breached(A, 0.0)
    assert made.barred(A, 59.0)
    assert made.begin(59.0) == []
    assert [due for due in made.dues() if due is not None] == [60.0]
    assert not made.barred(A, 60.0)
    assert dialled(made.begin(60.0)) == [A]


# Whom to ask to dial.


def hopeless(made: Dialling) -> None:
    made.near.linked[C] = Held(0.0)
    put(made, A, Kind.KNOWN, "a:1", due=1e9, failures=ASK_AFTER)
    made.book.adverts[A] = advert(A, "a:1")
    made.book.adverts[ME] = advert(ME, "10.0.0.1:1")


def ask(made: Dialling) -> list[NodeId]:
    """A first look remembers who cannot be dialled; a while later it is asked."""
    made.begin(0.0)
    return asked(made.begin(10.0))


def test_who_cannot_be_dialled_and_could_dial_is_asked() -> None:
    made = dialling()
    hopeless(made)
    assert asked(made.begin(0.0)) == []
    due = min(due for due in made.dues() if due is not None)
    assert 0.0 < due <= 10.0
    assert asked(made.begin(due - 1e-3)) == []
    assert asked(made.begin(due)) == [A]


def test_who_tells_of_no_address_is_asked_without_a_try() -> None:
    made = dialling()
    hopeless(made)
    made.book.targets[A] = Target(Kind.KNOWN, (), 1e9)
    assert ask(made) == [A]


def one_more_try(made: Dialling) -> None:
    made.book.targets[A].failures -= 1


def linked_already(made: Dialling) -> None:
    made.near.linked[A] = Held(0.0)


def alone(made: Dialling) -> None:
    made.near.linked.clear()


def unknown_here(made: Dialling) -> None:
    del made.book.adverts[ME]


def not_reachable(made: Dialling) -> None:
    made.book.adverts[ME] = advert(ME)


def reachable_here_only(made: Dialling) -> None:
    made.book.adverts[ME] = advert(ME, "127.0.0.1:1")


def gone(made: Dialling) -> None:
    made.book.targets[A].kind = Kind.DEAD


def shut_out(made: Dialling) -> None:
    made.quarantine.breached(A, 0.0)


@pytest.mark.parametrize(
    "but", [one_more_try, linked_already, alone, unknown_here, not_reachable, reachable_here_only, gone, shut_out]
)
def test_nobody_is_asked_in_vain(but: object) -> None:
    made = dialling()
    hopeless(made)
    but(made)  # type: ignore[operator]
    assert ask(made) == []


def test_a_neighbour_on_this_machine_is_asked_over_loopback() -> None:
    made = dialling()
    hopeless(made)
    reachable_here_only(made)
    made.book.targets[A].near = True
    assert ask(made) == [A]


# What a failure means.


def test_a_failure_frees_the_dial_and_puts_off_the_next() -> None:
    made = dialling()
    target = put(made, "a:1", Kind.NAMED)
    made.begin(0.0)
    made.failed("a:1", None, 1.0)
    assert "a:1" not in made.flights
    assert target.failures == 1
    assert 1.0 < target.due <= 1.0 + SECTION.redial_max_s
    assert made.begin(1.0) == []
    assert dialled(made.begin(target.due)) == ["a:1"]


def test_a_failure_of_what_is_no_target_any_more_changes_nothing() -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    made.begin(0.0)
    made.book.drop("a:1")
    made.failed("a:1", A, 1.0)
    assert (made.book.targets, made.book.behind) == ({}, {})
    assert "a:1" not in made.flights


def test_a_remembered_peer_is_tried_for_a_day_after_its_first_failure() -> None:
    made = dialling()
    target = put(made, A, Kind.HOPED, "a:1")
    made.failed(A, None, 5.0)
    made.failed(A, None, 50.0)
    assert target.until == 5.0 + DAY_S


def test_a_hint_is_dropped_after_three_failures_and_no_news_at_once() -> None:
    made = dialling()
    assert made.hear("10.0.0.9:1", 0.0)
    for number in range(1, TRIES + 1):
        assert "10.0.0.9:1" in made.book.targets
        made.failed("10.0.0.9:1", None, float(number))
    assert "10.0.0.9:1" not in made.book.targets
    assert not made.hear("10.0.0.9:1", 10.0)
    assert made.hear("10.0.0.9:1", TRIES + SECTION.redial_max_s)


def test_a_named_address_is_never_given_up() -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    for now in range(100):
        made.failed("a:1", None, float(now))
    made.expire(1e9)
    assert "a:1" in made.book.targets


def test_what_was_wanted_for_one_dial_is_dropped_by_its_failure() -> None:
    made = dialling()
    put(made, A, Kind.KNOWN, "a:1", once=True)
    made.failed(A, None, 0.0)
    assert A not in made.book.targets


def test_a_chosen_one_that_cannot_be_dialled_is_chosen_no_more() -> None:
    made = dialling()
    put(made, A, Kind.KNOWN, "a:1")
    made.near.views.choose(A, ("", b""))
    for failure in range(GIVE_UP):
        assert A in made.near.views.chosen
        made.failed(A, None, float(failure))
    assert A not in made.near.views.chosen
    assert A not in made.book.targets


def test_one_that_was_not_chosen_is_tried_on() -> None:
    made = dialling()
    put(made, A, Kind.KNOWN, "a:1")
    for failure in range(10 * GIVE_UP):
        made.failed(A, None, float(failure))
    assert A in made.book.targets


def test_one_that_is_asked_often_stays_a_target_even_so() -> None:
    made = dialling()
    put(made, A, Kind.KNOWN, "a:1")
    made.near.views.choose(A, ("", b""))
    made.near.heat.heat(A, 0.0)
    for failure in range(GIVE_UP):
        made.failed(A, None, float(failure))
    assert A not in made.near.views.chosen
    assert A in made.book.targets


# Who was found where.


@pytest.mark.parametrize("ends", ["landed", "failed"])
def test_who_answers_at_a_named_address_is_remembered_whether_or_not_a_link_came_of_it(ends: str) -> None:
    made = dialling()
    put(made, "a:1", Kind.NAMED)
    made.begin(0.0)
    if ends == "landed":
        made.landed("a:1", A)
    else:
        made.failed("a:1", A, 0.0)
    assert made.book.behind == {"a:1": A}
    assert "a:1" not in made.flights


def test_a_hint_that_led_to_a_known_one_has_done_its_work() -> None:
    made = dialling()
    for address in ("10.0.0.8:1", "10.0.0.9:1"):
        made.hear(address, 0.0)
    put(made, A, Kind.KNOWN, "a:1")
    made.landed("10.0.0.8:1", A)
    made.landed("10.0.0.9:1", B)
    assert set(made.book.targets) == {A, "10.0.0.9:1"}
    assert made.book.behind == {"10.0.0.9:1": B}


# Hints.


def test_a_hint_heard_again_is_kept_for_longer_and_is_no_news() -> None:
    made = dialling()
    assert made.hear("10.0.0.9:1", 0.0)
    assert not made.hear("10.0.0.9:1", 100.0)
    assert made.book.targets["10.0.0.9:1"].until == 100.0 + HINT_S
    made.expire(HINT_S + 99.0)
    assert "10.0.0.9:1" in made.book.targets
    made.expire(HINT_S + 100.0)
    assert made.book.targets == {}


def test_an_address_that_people_named_is_no_hint() -> None:
    made = dialling()
    target = put(made, "10.0.0.9:1", Kind.NAMED)
    assert not made.hear("10.0.0.9:1", 0.0)
    assert (target.kind, target.until) == (Kind.NAMED, None)


def test_where_a_known_node_says_that_it_is_nothing_is_heard_anew() -> None:
    made = dialling()
    put(made, A, Kind.KNOWN, "10.0.0.9:1")
    assert not made.hear("10.0.0.9:1", 0.0)


def test_where_only_named_peers_are_dialled_no_hint_is_heeded() -> None:
    assert not dialling(dial_learned=False).hear("10.0.0.9:1", 0.0)


def test_a_new_hint_takes_the_place_of_the_one_that_failed_most_and_of_none_that_has_not() -> None:
    made = dialling(hints=3, hints_per_s=100)
    for number in range(3):
        assert made.hear(f"10.0.0.{number}:1", 0.0)
    assert not made.hear("10.0.0.9:1", 0.0)
    made.book.targets["10.0.0.1:1"].failures = 2
    made.book.targets["10.0.0.2:1"].failures = 1
    assert made.hear("10.0.0.9:1", 0.0)
    assert set(made.book.targets) == {"10.0.0.0:1", "10.0.0.2:1", "10.0.0.9:1"}


# Being somewhere else, and being alone.


def test_alone_named_peers_that_were_left_in_peace_are_tried_soon_and_others_keep_their_wait() -> None:
    made = dialling()
    far = put(made, "a:1", Kind.NAMED, due=1e6)
    soon = put(made, "b:1", Kind.NAMED, due=SECTION.redial_max_s)
    other = put(made, A, Kind.KNOWN, "c:1", due=1e6)
    made.hurry(0.0)
    assert far.due <= SECTION.redial_max_s
    assert (soon.due, other.due) == (SECTION.redial_max_s, 1e6)


def test_elsewhere_all_is_tried_anew_and_hints_are_forgiven() -> None:
    made = dialling()
    linked = put(made, A, Kind.KNOWN, "a:1", due=1e6, failures=7)
    made.near.linked[A] = Held(0.0)
    waiting = put(made, B, Kind.KNOWN, "b:1", due=1e6, failures=7)
    made.hear("10.0.0.9:1", 0.0)
    for _ in range(TRIES):
        made.failed("10.0.0.9:1", None, 1.0)
    made.redial(2.0)
    assert (waiting.failures, linked.failures) == (0, 7)
    assert 2.0 <= waiting.due <= 2.0 + SECTION.redial_max_s
    assert made.hear("10.0.0.9:1", 3.0)


# What is dropped in the end.


def test_what_was_tried_for_long_enough_is_dropped_unless_it_is_linked_or_being_dialled() -> None:
    made = dialling()
    for key, address in ((A, "a:1"), (B, "b:1"), (C, "c:1")):
        put(made, key, Kind.DEAD, address, due=1e6, until=10.0)
    made.near.linked[A] = Held(0.0)
    made.book.targets[B].due = 0.0
    made.begin(0.0)
    made.expire(9.9)
    assert set(made.book.targets) == {A, B, C}
    made.expire(10.0)
    assert set(made.book.targets) == {A, B}
