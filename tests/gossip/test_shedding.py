"""Which links are closed."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.shedding import LONELY, YOUNG_S, Standing, excess, worst
from meshnode.model.ids import NodeId


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def link(number: int, age_s: float = 100.0, neighbours: int | None = 8) -> Standing:
    return Standing(node(number), age_s, neighbours)


standings = st.builds(
    Standing,
    st.integers(0, 10**6).map(node),
    st.floats(0, 1000),
    st.none() | st.integers(0, 20),
    st.integers(0, 2),
    st.none() | st.floats(0, 1),
    st.booleans(),
    st.integers(0, 3),
)


@given(st.lists(standings, max_size=60, unique_by=lambda one: one.peer), st.integers(0, 20), st.integers(0, 99))
def test_never_one_in_use_nor_young_nor_needed_and_never_below_the_limit(
    others: list[Standing], most: int, seed: int
) -> None:
    closed = excess(others, most)
    by_peer = {one.peer: one for one in others}
    assert len(closed) <= max(0, len(others) - most) and len(set(closed)) == len(closed)
    found = worst(others, random.Random(seed))
    for peer in [*closed, *([found] if found is not None else [])]:
        one = by_peer[peer]
        assert one.age_s >= YOUNG_S and not one.streams and one.neighbours is not None and one.neighbours > LONELY


def test_the_newest_go_first_a_part_at_a_time_and_those_that_only_dial_out_last() -> None:
    others = [link(n, 100.0 + n) for n in range(20)]
    others[0] = replace(others[0], dialable=False)
    assert excess(others, 16) == [node(1)]
    assert excess(others, 12) == [node(1), node(2)]
    assert excess(others, 20) == []
    assert excess([link(n) for n in range(1016)], 16) == [node(n) for n in range(250)]
    assert excess([replace(one, dialable=False) for one in others[:5]], 4) == [node(0)]


def test_the_farthest_is_given_up_half_of_the_time_and_one_of_a_crowd_always() -> None:
    near = [replace(link(n), rtt_s=0.001) for n in range(9)]
    far = replace(link(9), rtt_s=0.3)
    found = [worst([*near, far], random.Random(seed)) for seed in range(400)]
    assert 180 < found.count(node(9)) < 270 and len(set(found)) == 10
    crowd = replace(link(10), crowded=1)
    assert {worst([*near, far, crowd], random.Random(seed)) for seed in range(50)} == {node(10)}
    assert worst([link(1, neighbours=2)], random.Random(1)) is None
