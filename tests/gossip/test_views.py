"""Whom one node chooses."""

from __future__ import annotations

import random

from meshnode.config.mesh import MeshSection
from meshnode.gossip.passive import Groups
from meshnode.gossip.views import NAMES, PARTED_S, PICK_S, REST_S, Views, network_of, place_of
from meshnode.model.ids import NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def views(seed: int = 1, **settings: int) -> Views:
    made = Views(MeshSection(**settings), random.Random(seed))  # type: ignore[arg-type]
    made.resize(1000)
    return made


def fill(made: Views, numbers: range, groups: Groups | None = None) -> None:
    for number in numbers:
        made.passive.offer(node(number), lambda: groups or (f"10.0.{number}.0/24", b""))  # noqa: B023 - called at once


def pick(made: Views, now: float, linked: tuple[NodeId, ...] = ()) -> list[NodeId]:
    found = []
    while (one := made.pick(linked, lambda _: False, now)) is not None:
        found.append(one)
    return found


def test_a_full_mesh_stays_one_until_a_quarter_more_nodes_are_in_it() -> None:
    made = Views(MeshSection(), random.Random(1))
    assert [made.resize(count) for count in (16, 20, 21, 17, 16, 20)] == [False, False, True, False, True, False]
    never = Views(MeshSection(full_mesh_nodes=0), random.Random(1))
    assert never.resize(1) and never.wide


def test_four_are_chosen_at_once_and_more_one_at_a_time_while_others_may_choose_this_node() -> None:
    made = views()
    fill(made, range(1, 60))
    assert len(pick(made, 0.0)) == 4
    assert pick(made, 0.1) == [] and made.next_pick((), 0.1) is not None
    assert len(pick(made, 0.1 + PICK_S)) == 1
    others = tuple(node(number) for number in range(100, 104))
    assert not made.lacks((*made.chosen, *others))
    made.try_another()
    assert made.lacks((*made.chosen, *others))


def test_choices_are_spread_over_networks_and_then_over_inviters() -> None:
    for seed in range(20):
        made = views(seed)
        fill(made, range(1, 9), ("10.6.6.0/24", b"a"))
        fill(made, range(10, 12), ("10.7.7.0/24", b"a"))
        fill(made, range(20, 30), ("10.8.8.0/24", b"b"))
        found = pick(made, 0.0)
        where = [made.chosen[peer][0] for peer in found]
        assert all(where.count(one) <= 2 for one in where)
        assert sum(made.chosen[peer][1] == b"b" for peer in found) == 2


def test_one_network_is_no_limit_where_everything_is_there() -> None:
    made = views()
    fill(made, range(1, 60), ("192.168.1.0/24", b"me"))
    assert len(pick(made, 0.0)) == 4
    assert sum(made.crowding(peer) for peer in made.chosen) > 0


def test_where_a_chosen_one_was_found_counts_and_not_what_it_says() -> None:
    made = views()
    fill(made, range(1, 5))
    for peer in pick(made, 0.0):
        made.landed(peer, "10.6.6.9:6375")
    assert {made.chosen[peer][0] for peer in made.chosen} == {"10.6.6.0/24"}
    assert all(made.crowding(peer) == 2 for peer in made.chosen)


def test_one_that_failed_or_parted_is_left_alone_for_a_while() -> None:
    made = views(chosen_links=1, active_links=1)
    fill(made, range(1, 3))
    (first,) = pick(made, 0.0)
    made.failed(first, 0.0)
    (second,) = pick(made, PICK_S)
    assert second != first
    made.parted(second, PICK_S)
    assert pick(made, REST_S - 1.0) == []
    assert pick(made, REST_S) == [first]
    made.failed(first, REST_S)
    made.awake()
    assert pick(made, REST_S + PICK_S) == [second] and PARTED_S > REST_S


def test_linked_to_all_there_are_it_draws_its_own_among_them() -> None:
    made = views()
    fill(made, range(1, 60))
    everybody = tuple(node(number) for number in range(1, 60))
    assert len(pick(made, 0.0, everybody)) == 4
    made.try_another()
    assert pick(made, 10.0, everybody) == []


def test_networks_are_told_apart_and_names_are_one() -> None:
    assert network_of("10.1.2.3:5") == network_of("10.1.2.77:6") != network_of("10.1.3.3:5")
    assert network_of("[2001:db8::1]:5") == network_of("[2001:db8::2:1]:5") != network_of("[2001:db8:0:1::1]:5")
    assert network_of("127.0.0.1:5") == "" and network_of("[::1]:5") == "" and network_of("a.example:5") == NAMES
    assert place_of(("127.0.0.1:5", "10.1.2.3:5")) == network_of("10.1.2.3:1") and place_of(()) == ""
