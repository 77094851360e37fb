"""What the overlay knows of others: targets by name, who was found where, and whom to forget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.book import MOST_FORGOTTEN, MOST_REACHED, Book
from meshnode.gossip.targets import Key, Kind, Target
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id

ME, A, B, C = (node_id(number) for number in range(4))
HERE, THERE = b"here", b"there"


def book(*, dial_learned: bool = True) -> Book:
    return Book(ME, HERE, dial_learned)


def put(made: Book, key: Key, kind: Kind = Kind.KNOWN, *told: str, **more: object) -> Target:
    made.targets[key] = target = Target(kind, told, 0.0, **more)  # type: ignore[arg-type]
    return target


def advert(
    node: NodeId, *addresses: str, host: bytes = THERE, order: tuple[int, int] = (1, 1), gone: bool = False
) -> Advert:
    return Advert(node, MESH, *order, 180, host=host, addresses=addresses, gone=gone)


# What is new.


@given(
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 3)),
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(1, 3)),
)
def test_a_whole_table_is_news_only_where_it_differs(before: dict[NodeId, int], after: dict[NodeId, int]) -> None:
    adverts = {(node, n): advert(node, order=(1, n)) for node in (A, B, C) for n in (1, 2, 3)}
    made = book()
    for node, n in before.items():
        made.learn(node, adverts[node, n])
    said = made.news({node: adverts[node, n] for node, n in after.items()})
    for node in (A, B, C):
        if before.get(node) == after.get(node):
            assert node not in said
        else:
            assert said[node] == (adverts[node, after[node]] if node in after else None)


def test_what_was_said_before_is_given_back_and_a_tombstone_ends_it() -> None:
    made, first = book(), advert(A)
    assert made.learn(A, first) is None
    assert made.learn(A, advert(A, gone=True)) is first
    assert made.adverts == {}
    assert made.learn(A, None) is None


# Who is where.


def test_a_peer_is_dialled_by_its_id_and_by_each_address_where_it_answered() -> None:
    made = book()
    for key in (A, B, "a:1", "b:1", "c:1"):
        put(made, key)
    made.behind.update({"a:1": A, "b:1": B})
    assert made.keys_of(A) == [A, "a:1"]
    assert (made.peer(A), made.peer("a:1"), made.peer("c:1")) == (A, A, None)
    made.drop("a:1")
    assert made.keys_of(A) == [A]
    assert "a:1" not in made.behind


def test_what_a_target_was_told_goes_before_the_advert_which_may_be_newer_than_it_is_wanted() -> None:
    made = book()
    made.learn(A, advert(A, "10.0.0.2:1"))
    assert made.where(A) == ("10.0.0.2:1",)
    put(made, A, Kind.KNOWN, "10.0.0.1:1")
    assert made.where(A) == made.addresses(A) == ("10.0.0.1:1",)
    assert made.addresses("a:1") == ("a:1",)
    assert made.where(B) == ()


def test_what_worked_goes_first_until_all_have_failed() -> None:
    made = book()
    target = put(made, A, Kind.KNOWN, "10.0.0.1:1")
    made.candidates.linked(A, "10.0.0.9:1", "")
    assert made.where(A) == ("10.0.0.9:1", "10.0.0.1:1")
    target.failures = 1
    assert made.where(A) == ("10.0.0.1:1", "10.0.0.9:1")


def test_where_only_named_peers_are_dialled_an_advert_leads_nowhere() -> None:
    made = book(dial_learned=False)
    made.learn(A, advert(A, "10.0.0.2:1"))
    assert made.where(A) == ()


def test_loopback_of_another_machine_and_nonsense_are_no_addresses() -> None:
    made = book()
    said = ("127.0.0.1:1", "10.0.0.1:1", "nonsense", "10.0.0.1:0")
    assert made.told(advert(A, *said)) == ("10.0.0.1:1",)
    assert made.told(advert(A, *said, host=HERE)) == ("127.0.0.1:1", "10.0.0.1:1")


def test_an_address_is_known_from_a_target_or_from_an_advert() -> None:
    made = book()
    put(made, A, Kind.KNOWN, "10.0.0.1:1")
    made.learn(B, advert(B, "10.0.0.2:1"))
    assert [made.tells_of(f"10.0.0.{n}:1") for n in (1, 2, 3)] == [True, True, False]


# Whom to remember.


def test_those_named_first_come_first_then_those_linked_last_then_the_hoped_each_once() -> None:
    made = book()
    put(made, C, Kind.HOPED, "10.0.0.3:1")
    put(made, "a:1", Kind.HOPED, "a:1")
    for node, address in ((A, "10.0.0.1:1"), (B, "10.0.0.2:1")):
        made.candidates.linked(node, address, "")
    assert [peer for peer, _ in made.reached(iter((A,)))] == [A, B, C]
    assert [peer for peer, _ in made.reached(iter(()))] == [B, A, C]
    assert [peer for peer, _ in made.reached(iter((node_id(9),)))] == [B, A, C]


def test_no_more_are_remembered_than_are_worth_it() -> None:
    made = book()
    for number in range(MOST_REACHED + 5):
        made.candidates.linked(node_id(number), f"10.0.0.{number}:1", "")
    assert len(made.reached(iter(()))) == MOST_REACHED


# Whom to forget.


def test_a_forgotten_peer_is_disregarded_until_it_says_something_new() -> None:
    made = book()
    said = advert(A, "10.0.0.1:1", order=(1, 5))
    made.learn(A, said)
    put(made, A)
    put(made, "a:1", Kind.HINT)
    made.behind["a:1"] = A
    made.candidates.linked(A, "10.0.0.1:1", "")
    assert not made.disregarded(A, said)
    made.forget(A)
    assert (made.targets, made.behind, list(made.candidates)) == ({}, {}, [])
    assert made.disregarded(A, said)
    assert made.disregarded(A, advert(A, order=(1, 4)))
    assert not made.disregarded(A, advert(A, order=(1, 6)))
    assert not made.disregarded(A, said)


def test_what_people_named_stays_a_target_when_its_peer_is_forgotten() -> None:
    made = book()
    put(made, "a:1", Kind.NAMED)
    made.behind["a:1"] = A
    made.forget(A)
    assert set(made.targets) == {"a:1"}


def test_who_has_left_is_disregarded() -> None:
    assert book().disregarded(A, advert(A, gone=True))
    assert not book().disregarded(A, advert(A))


def test_of_a_target_without_an_advert_its_own_order_is_remembered() -> None:
    made = book()
    put(made, A, order=(2, 3))
    made.forget(A)
    assert made.disregarded(A, advert(A, order=(2, 3)))
    assert not made.disregarded(A, advert(A, order=(2, 4)))


def test_those_forgotten_are_bounded_and_the_first_is_believed_again() -> None:
    made = book()
    nodes = [node_id(number) for number in range(MOST_FORGOTTEN + 1)]
    for node in nodes:
        made.learn(node, advert(node))
        made.forget(node)
    assert [made.disregarded(node, advert(node)) for node in (nodes[0], nodes[1], nodes[-1])] == [False, True, True]


def test_kinds_are_listed_the_oldest_first() -> None:
    made = book()
    for key, kind in (("b:1", Kind.NAMED), (A, Kind.KNOWN), ("a:1", Kind.NAMED)):
        put(made, key, kind)
    assert made.of_kind(Kind.NAMED) == ["b:1", "a:1"]
