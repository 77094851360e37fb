"""Who is found silent, how soon, and who is not: many machines that watch each other over links that break and slow."""

from __future__ import annotations

from itertools import pairwise

import pytest

from meshnode.gossip import Cleared, Dead, Suspected, Violation
from tests.gossip.living import Living
from tests.gossip.world import Weather


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_frozen_node_is_found_by_all_its_neighbours_within_six_seconds_and_nobody_else_is(count: int) -> None:
    for seed in range(10):
        world = Living(count, seed)
        world.everybody()
        world.run(5.0 + seed / 10)
        since = world.now
        world.freeze(0, 1000.0)
        world.run(20.0)
        dead = world.found(Dead, since=since)
        assert {(by, about) for _, by, about in dead} == {(n, 0) for n in range(1, count)}
        assert all(at - since <= 6.0 for at, _, _ in dead)
        suspected = world.found(Suspected, since=since)
        assert {about for _, _, about in suspected} == {0}
        assert all(at - since <= 2.0 for at, _, _ in suspected), "and nothing new is sent there long before"


def test_three_others_that_agree_halve_the_suspicion() -> None:
    world = Living(10, 1)
    world.everybody()
    world.run(5.0)
    world.freeze(0, 1000.0)
    world.run(20.0)
    assert all(at - 5.0 <= 4.0 for at, _, _ in world.found(Dead))


def test_in_a_row_only_its_neighbours_watch_a_node() -> None:
    world = Living(6, 2)
    world.row()
    world.run(5.0)
    world.freeze(3, 1000.0)
    world.run(20.0)
    assert {(by, about) for _, by, about in world.found(Dead)} == {(2, 3), (4, 3)}


@pytest.mark.parametrize("pause_s", [0.5, 1.5, 3.0])
def test_a_pause_ends_no_link(pause_s: float) -> None:
    for seed in range(5):
        world = Living(10, seed)
        world.everybody()
        world.run(5.3)
        world.freeze(0, pause_s)
        world.run(30.0)
        if pause_s < 2.9:
            assert world.found(Dead) == []
        assert not [one for one in world.found(Suspected) if one[1] == 0], "who paused suspects nobody"
        assert all(world.machines[n].suspected == frozenset() for n in world.machines)


def test_who_was_stopped_for_long_comes_back_and_blames_nobody() -> None:
    for seed in range(5):
        world = Living(6, seed)
        world.everybody()
        world.run(5.0)
        world.freeze(0, 30.0)
        world.run(60.0)
        assert {about for _, _, about in world.found(Dead)} == {0}
        assert len(world.links) == 15, "all are linked again"
        assert all(machine.suspected == frozenset() for machine in world.machines.values())
        assert world.agree()


def test_a_slow_node_is_not_found_dead() -> None:
    for seed in range(3):
        world = Living(10, seed, Weather(delay_s=(0.001, 0.02), resent=0.001))
        world.everybody()
        world.run(10.0)
        # Twenty times the millisecond that an event costs a busy node.
        world.cost_s[0] = 0.02
        world.run(120.0)
        assert world.found(Dead) == []
        assert world.found(Suspected, since=20.0) == []


def test_links_across_the_world_are_not_found_dead() -> None:
    world = Living(6, 1, Weather(delay_s=(0.1, 0.6)))
    world.everybody()
    world.run(300.0)
    assert world.found(Suspected, since=10.0) == []
    assert world.found(Dead) == []


@pytest.mark.parametrize("seed", range(2))
def test_where_three_of_ten_segments_are_lost_nobody_is_dead_to_all_and_nobody_to_one_for_half_a_minute(
    seed: int,
) -> None:
    world = Living(10, seed, Weather(resent=0.3))
    world.everybody()
    fewest = 9
    for _ in range(200):
        world.run(1.0)
        fewest = min(fewest, *(sum(n in link for link in world.links) for n in world.machines))
    assert fewest >= 5
    doubts = sorted(
        [(at, by, about, True) for at, by, about in world.found(Suspected)]
        + [(at, by, about, False) for kind in (Cleared, Dead) for at, by, about in world.found(kind)]
        + [(at, about, by, False) for at, by, about in world.found(Dead)]
    )
    for pair in {(by, about) for _, by, about, _ in doubts}:
        mine = [(at, doubted) for at, by, about, doubted in doubts if (by, about) == pair]
        assert all(later - at < 30.0 for (at, doubted), (later, _) in pairwise(mine) if doubted and later != at)
    assert len(world.found(Dead)) <= 60, "of 90 watches in 200 s, as many as stalls of a quarter minute"
    assert world.seen(Violation) == []


def test_a_link_that_carries_one_way_only_is_doubted_at_once_and_closed_by_who_hears_nothing() -> None:
    world = Living(5, 3)
    world.everybody()
    world.run(5.0)
    world.cut = lambda a, b: (a, b) == (0, 1)
    world.run(40.0)
    assert min(at for at, by, _ in world.found(Suspected) if by == 1) < 8.0
    assert {frozenset((by, about)) for _, by, about in world.found(Suspected)} == {frozenset((0, 1))}
    [(at, by, about)] = world.found(Dead)
    assert (by, about) == (1, 0)
    assert 15.0 < at - 5.0 < 20.0, "others reach it, so it is given time"


def test_a_link_that_carries_one_way_only_is_closed_soon_where_nobody_else_reaches_the_node() -> None:
    world = Living(3, 3)
    world.row()
    world.run(5.0)
    world.cut = lambda a, b: (a, b) == (0, 1)
    world.run(10.0)
    assert {(by, about) for _, by, about in world.found(Dead)} == {(1, 0)}


def test_a_mesh_cut_in_two_loses_just_the_links_across() -> None:
    world = Living(8, 4)
    world.everybody()
    world.run(5.0)
    world.cut = lambda a, b: a % 2 != b % 2
    world.run(40.0)
    assert all(len({n % 2 for n in link}) == 1 for link in world.links)
    assert len(world.links) == 12
    world.cut = lambda a, b: False
    world.run(20.0)
    assert len(world.links) == 28
    assert world.agree()


def test_probes_cost_what_the_arithmetic_says() -> None:
    world = Living(10, 5)
    world.everybody()
    world.run(10.0)
    before = dict(world.frames)
    world.run(100.0)
    for n in range(10):
        each_s = (world.frames[n] - before[n]) / 100
        # Nine links with half of a probe and of an answer from each end, sent up to a fifth early; adverts besides.
        assert each_s < 9 * 1.3 + 4
