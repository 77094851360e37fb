"""Meshes too large for links to all: what the links of many overlay machines look like together."""

from __future__ import annotations

import pytest

from tests.gossip.links import Links, apart, lan, node_id


def settle(world: Links, seconds: float = 60.0) -> Links:
    assert world.run(30.0, world.connected)
    world.run(seconds)
    assert world.connected()
    return world


def chosen(world: Links, number: int) -> set[int]:
    views = world.machines[number]._near.views
    return {world.numbers[peer] for peer in views.chosen} & world.graph[number]


@pytest.mark.parametrize(
    ("total", "seed", "shape"), [(50, 1, "star"), (50, 2, "ring"), (200, 3, "star"), (200, 4, "ring")]
)
def test_from_a_star_and_from_a_ring_the_graph_becomes_connected_with_few_links_each(
    total: int, seed: int, shape: str
) -> None:
    world = Links(total, seed, named=lambda n: (0,) if shape == "star" and n else ((n + 1) % total,))
    assert world.run(5.0, world.connected)
    world.run(30.0)
    assert max(world.dials.values()) <= 24
    world.run(600.0)
    degrees = world.degrees()
    assert world.connected() and degrees[0] >= 6 and degrees[-1] <= 32 and sum(degrees) <= 13 * total
    # One exchange each 30 s, and what it takes from others.
    assert max(world.dials.values()) <= 24 + 2 * 600 / 30
    assert all(len(chosen(world, number)) >= 4 for number in world.graph)


def test_a_thousand_nodes_stay_in_one_piece_when_three_in_ten_die_at_once_and_fill_their_views_again() -> None:
    world = settle(Links(1000, 5, named=lambda n: (0,) if n else ()), 5.0)
    world.kill(world.rng.sample(range(1000), 300))
    assert world.connected()
    world.run(20.0)
    assert world.connected() and world.degrees()[0] >= 6


@pytest.mark.parametrize("seed", range(3))
def test_those_left_of_a_hundred_fill_their_views_again_however_often_three_in_ten_die(seed: int) -> None:
    world = settle(Links(100, seed, named=lambda n: (0,) if n else ()))
    for _ in range(3):
        world.kill(world.rng.sample(sorted(world.graph), len(world.graph) * 3 // 10))
        world.run(120.0)
        assert world.connected()
        assert world.degrees()[0] >= 6
        assert all(len(chosen(world, number)) >= 4 for number in world.graph)


def test_a_partition_of_a_minute_heals() -> None:
    world = settle(Links(100, 7, named=lambda n: (0,) if n else ()))
    world.partition({number: number % 2 for number in world.graph})
    world.run(60.0)
    assert len(world.components()) == 2
    world.partition({})
    assert world.run(10.0, world.connected)


def test_two_sides_that_have_forgotten_each_other_find_each_other() -> None:
    world = settle(Links(60, 8, named=lambda n: (0,) if n else ()))
    world.partition({number: number % 2 for number in world.graph})
    world.run(1800.0)
    assert len(world.components()) == 2
    assert all(len(machine._book.adverts) == 30 for machine in world.machines.values())
    world.partition({})
    assert world.run(600.0, world.connected)


def test_a_node_that_everybody_names_is_relieved_of_most_and_not_dialled_again_at_once() -> None:
    world = settle(Links(100, 9, named=lambda n: (0,) if n else ()), 20.0)
    assert len(world.graph[0]) == 99
    world.run(580.0)
    assert len(world.graph[0]) <= 32
    before = world.sheds[0]
    world.run(1800.0)
    # Everybody tries again some time, which is how two halves would find each other.
    assert 0 < world.sheds[0] - before < 99 * 1800 / 300


def test_the_graph_keeps_mixing() -> None:
    world = settle(Links(60, 10, named=lambda n: (0,) if n else ()), 200.0)
    before = {number: set(others) for number, others in world.graph.items()}
    world.run(900.0)
    kept = sum(len(before[number] & world.graph[number]) for number in world.graph)
    assert kept < 0.7 * sum(map(len, before.values()))
    # What was chosen first is what is dialled first after a restart.
    machine = world.machines[5]
    first = [peer for peer, _ in machine.reached()[:2]]
    assert first == list(machine._near.views.chosen)[:2]


def test_far_ones_are_given_up_more_often_than_near_ones() -> None:
    def rtt_s(one: int, two: int) -> float:
        return 0.001 if one % 2 == two % 2 else 0.1

    world = settle(Links(80, 11, named=lambda n: (0,) if n else (), rtt_s=rtt_s), 1200.0)
    pairs = [(one, two) for one in world.graph for two in chosen(world, one)]
    near = sum(one % 2 == two % 2 for one, two in pairs)
    assert 0.55 * len(pairs) < near < 0.95 * len(pairs)


def test_a_mesh_that_passes_the_threshold_and_comes_back_moves_no_links() -> None:
    world = settle(Links(15, 12, named=lambda n: (0,) if n else ()))
    assert world.degrees() == [14] * 15
    for number in (15, 16):
        world.number[apart(number)], world.numbers[node_id(number)] = number, number
        world.named = lambda _: (0,)
        world.start(number)
        world.run(60.0)
    assert world.degrees() == [16] * 17
    world.kill([15, 16])
    dials = world.dials.total()
    world.run(300.0)
    assert world.degrees() == [14] * 15 and not world.sheds
    # Only the two that are gone were tried.
    assert world.dials.total() - dials < 15 * 2 * 20


def test_a_full_mesh_that_grows_thins_out_slowly_and_is_full_again_when_it_shrinks() -> None:
    world = settle(Links(20, 13, named=lambda n: (0,) if n else ()))
    assert world.degrees() == [19] * 20
    world.named = lambda _: (0,)
    for number in range(20, 30):
        world.number[apart(number)], world.numbers[node_id(number)] = number, number
        world.start(number)
    world.run(20.0)
    assert not world.sheds and world.connected()
    world.run(40.0)
    assert world.sheds.total() <= 2 * 30
    world.run(900.0)
    assert world.connected() and world.degrees()[0] >= 6 and world.degrees()[len(world.graph) // 2] <= 16
    world.kill(range(16, 30))
    world.run(300.0)
    assert world.degrees() == [15] * 16


def test_where_most_only_dial_out_each_has_links_and_none_is_cut_off() -> None:
    world = Links(60, 14, named=lambda n: (0,) if n else (), listens=lambda n: n < 6)
    settle(world, 900.0)
    assert all(len(others) >= 2 for others in world.graph.values())


@pytest.mark.parametrize("seed", range(3))
def test_with_half_the_nodes_in_one_network_each_keeps_links_of_its_choice_to_honest_ones(seed: int) -> None:
    """Half are Sybils of one /24, and dial whomever they like, without end."""
    total = 100

    def where(number: int) -> str:
        return lan(number) if number % 2 else apart(number)

    world = settle(Links(total, seed, named=lambda n: (0,) if n else (), where=where), 30.0)
    honest = [number for number in world.graph if not number % 2]
    for number in honest:
        mine = chosen(world, number)
        assert len({other for other in mine if not other % 2}) >= 2, number
        assert len({other for other in mine if other % 2}) <= 3
    world.kill([number for number in world.graph if number % 2])
    assert world.connected()
