"""What news of other nodes means for whom to dial, in a mesh of links to all and in a large one."""

from __future__ import annotations

import random
from dataclasses import replace

from meshnode.config.mesh import MeshSection
from meshnode.gossip.book import Book
from meshnode.gossip.learning import MOMENT_S, Learning
from meshnode.gossip.neighbourhood import Neighbourhood
from meshnode.gossip.targets import DAY_S, DEAD_MIN_S, MOST_DEAD, SOON, Kind, Target
from meshnode.gossip.views import Views
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id

ME, A, B = (node_id(number) for number in range(3))
HERE, THERE = b"here", b"there"


def learning(**settings: object) -> Learning:
    section = replace(MeshSection(), **settings)  # type: ignore[arg-type]
    rng = random.Random(1)
    book = Book(ME, HERE, section.dial_learned)
    return Learning(rng, book, Neighbourhood(section, rng, book, Views(section, rng), lambda _: b""))


def wide() -> Learning:
    """In a mesh too large for links to all; nobody is chosen yet."""
    made = learning(full_mesh_nodes=0)
    made.learn({ME: advert(ME), B: advert(B, "10.0.0.9:1")}, 0.0)
    assert made.near.views.wide
    return made


def advert(
    node: NodeId, *addresses: str, host: bytes = THERE, order: tuple[int, int] = (1, 1), gone: bool = False
) -> Advert:
    return Advert(node, MESH, *order, 180, host=host, addresses=addresses, gone=gone)


def target(of: Learning, node: NodeId) -> Target:
    return of.book.targets[node]


# Links to all.


def test_a_node_that_is_told_of_is_dialled_within_a_moment() -> None:
    made = learning()
    assert made.learn({A: advert(A, "10.0.0.1:1", order=(1, 4))}, 10.0)
    found = target(made, A)
    assert (found.kind, found.told, found.order, found.near) == (Kind.KNOWN, ("10.0.0.1:1",), (1, 4), False)
    assert 10.0 <= found.due <= 10.0 + MOMENT_S


def test_the_same_again_leaves_its_wait_and_news_ends_it() -> None:
    made = learning()
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    found = target(made, A)
    found.failures, found.due = 5, 500.0
    made.learn({A: advert(A, "10.0.0.1:1", order=(1, 2))}, 1.0)
    assert (found.failures, found.due) == (5, 500.0)
    made.learn({A: advert(A, "10.0.0.2:1", order=(1, 3))}, 2.0)
    assert found.failures == 0
    assert 2.0 <= found.due <= 2.0 + MOMENT_S


def test_a_node_that_started_anew_is_dialled_at_once_at_all_its_places() -> None:
    made = learning()
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    made.book.targets["a:1"] = Target(Kind.NAMED, ("a:1",), 900.0, failures=4)
    made.book.behind["a:1"] = A
    target(made, A).due = 500.0
    made.learn({A: advert(A, "10.0.0.1:1", order=(2, 1))}, 1.0)
    for key in (A, "a:1"):
        found = made.book.targets[key]
        assert found.failures == 0
        assert found.due <= 1.0 + MOMENT_S


def test_one_on_this_machine_is_near() -> None:
    made = learning()
    made.learn({A: advert(A, "127.0.0.1:1", host=HERE)}, 0.0)
    assert (target(made, A).near, target(made, A).told) == (True, ("127.0.0.1:1",))


def test_one_whose_advert_has_ended_is_tried_for_a_day_and_one_that_left_is_not() -> None:
    made = learning()
    made.learn({A: advert(A, "10.0.0.1:1"), B: advert(B, "10.0.0.2:1")}, 0.0)
    target(made, A).failures = SOON
    assert made.learn({A: None, B: advert(B, gone=True)}, 100.0)
    assert (target(made, A).kind, target(made, A).until) == (Kind.DEAD, 100.0 + DAY_S)
    assert target(made, A).due >= 100.0 + DEAD_MIN_S
    assert B not in made.book.targets


def test_one_that_was_never_reachable_is_forgotten_with_its_advert() -> None:
    made = learning()
    made.learn({A: advert(A)}, 0.0)
    made.learn({A: None}, 1.0)
    assert A not in made.book.targets


def test_of_those_that_ended_so_many_are_tried_and_the_oldest_goes() -> None:
    made = learning(full_mesh_nodes=1000)
    nodes = [node_id(number) for number in range(10, MOST_DEAD + 13)]
    made.learn({node: advert(node, "10.0.0.1:1") for node in nodes}, 0.0)
    for place, node in enumerate(nodes):
        made.learn({node: None}, 100.0 + place)
    assert [node for node in nodes if node not in made.book.targets] == nodes[:3]


def test_a_hint_that_led_to_a_node_known_now_is_dropped() -> None:
    made = learning()
    made.book.targets["10.0.0.1:1"] = Target(Kind.HINT, ("10.0.0.1:1",), 0.0)
    made.book.behind["10.0.0.1:1"] = A
    made.learn({B: advert(B, "10.0.0.2:1")}, 0.0)
    assert "10.0.0.1:1" in made.book.targets
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    assert "10.0.0.1:1" not in made.book.targets


def test_where_only_named_peers_are_dialled_news_makes_no_target() -> None:
    made = learning(dial_learned=False)
    assert not made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    assert made.learn({ME: advert(ME)}, 0.0)
    assert made.book.targets == {}
    assert made.once(A, 0.0) is None


# A large mesh.


def test_in_a_large_mesh_most_news_is_nothing_to_dial() -> None:
    made = wide()
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    assert A not in made.book.targets
    assert made.knows(A)
    assert not made.knows(node_id(9))


def test_one_of_the_sample_that_has_ended_is_tried_for_a_while_and_a_stranger_to_it_is_not() -> None:
    made = wide()
    said = {A: advert(A, "127.0.0.1:1", host=HERE)}
    made.learn(said, 0.0)
    assert A in made.near.views.passive
    made.learn({A: None}, 1.0)
    assert (target(made, A).kind, target(made, A).near) == (Kind.DEAD, True)
    made.book.drop(A)
    made.learn(said, 2.0)
    made.near.views.passive.discard(A)
    made.learn({A: None}, 3.0)
    assert A not in made.book.targets


def test_one_that_was_chosen_is_a_target_until_it_is_so_no_more() -> None:
    made = wide()
    made.near.views.choose(A, ("", b""))
    made.want(A, advert(A, "10.0.0.1:1"), 0.0)
    assert A in made.book.targets
    made.near.views.chosen.pop(A)
    made.want(A, advert(A, "10.0.0.1:1"), 1.0)
    assert A not in made.book.targets


def test_anybody_known_can_be_dialled_once_and_news_of_it_keeps_that() -> None:
    made = wide()
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    found = made.once(A, 5.0)
    assert found is not None
    assert (found.once, found.due, found.told) == (True, 5.0, ("10.0.0.1:1",))
    assert made.once(A, 6.0) is found
    made.learn({A: advert(A, "10.0.0.2:1", order=(1, 2))}, 7.0)
    assert target(made, A).once
    made.learn({A: None}, 8.0)
    assert A not in made.book.targets
    assert made.once(node_id(9), 9.0) is None


def test_one_that_was_forgotten_is_not_dialled_even_once() -> None:
    made = wide()
    made.learn({A: advert(A, "10.0.0.1:1")}, 0.0)
    made.book.forget(A)
    assert made.once(A, 1.0) is None
