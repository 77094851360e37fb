"""Ways: against brute force on small graphs, and the rules of who counts as linked and who relays."""

from __future__ import annotations

import dataclasses
from itertools import pairwise, permutations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.view import View
from meshnode.routing import Paths, Tree
from tests.routing.build import ME, mesh, node

PENALTY_S = 0.02
NODES = 6


@st.composite
def views(draw: st.DrawFn) -> View:
    pairs = [(a, b) for a in range(NODES) for b in range(a)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs)))
    links = [(a, b, draw(st.integers(0, 200))) for a, b in chosen]
    changes = {
        n: {"relay": draw(st.booleans()) or draw(st.booleans()), "draining": draw(st.integers(0, 5)) == 0}
        for n in range(NODES)
    }
    view = mesh(links, NODES, changes)
    for n in range(1, NODES):
        # Sometimes one side does not know of a link, or says another time.
        known = view.adverts[node(n)]
        heard = tuple(
            msgspec.structs.replace(one, rtt_ms=draw(st.integers(0, 200)))
            for one in known.neighbours
            if draw(st.integers(0, 4))
        )
        view.adverts[node(n)] = msgspec.structs.replace(known, neighbours=heard)  # type: ignore[index]
    return view


def edge_s(view: View, a: int, b: int) -> float | None:
    """The rule in the plainest words."""
    if a == 0:
        return view.links.get(node(b))
    there = {one.id: one.rtt_ms for one in view.adverts[node(a)].neighbours}
    back = {one.id: one.rtt_ms for one in view.adverts[node(b)].neighbours}
    if node(b) not in there or node(a) not in back:
        return None
    return max(there[node(b)], back[node(a)]) / 1000


def every_way(view: View, target: int, most_hops: int) -> list[tuple[float, tuple[int, ...]]]:
    found = []
    for between in range(most_hops):
        for middle in permutations([n for n in range(1, NODES) if n != target], between):
            adverts = [view.adverts[node(n)] for n in middle]
            if any(not one.relay or one.draining for one in adverts):
                continue
            way = (0, *middle, target)
            costs = [edge_s(view, a, b) for a, b in pairwise(way)]
            if None not in costs:
                found.append((sum(cost for cost in costs if cost is not None) + PENALTY_S * between, way))
    return found


@settings(deadline=None, max_examples=150)
@given(views(), st.integers(1, NODES - 1), st.integers(1, NODES - 1))
def test_finds_the_cheapest_way_within_the_hops(view: View, target: int, hops: int) -> None:
    reach = Tree(view, PENALTY_S).reach(node(target), hops)
    ways = every_way(view, target, hops)
    if not ways:
        assert reach is None
        return
    assert reach is not None
    assert abs(reach.cost_s - min(ways)[0]) < 1e-9
    assert reach.path in {tuple(node(n) for n in way) for cost, way in ways if abs(cost - reach.cost_s) < 1e-9}
    assert len(set(reach.path)) == len(reach.path) == reach.hops + 1
    assert reach.next_hop == reach.path[1]


@settings(deadline=None, max_examples=100)
@given(views(), st.integers(1, NODES - 1), st.sets(st.integers(1, NODES - 1)), st.integers(0, NODES - 1))
def test_a_relay_never_sends_a_job_back_where_it_was(view: View, target: int, passed: set[int], hops: int) -> None:
    exclude = [node(n) for n in passed]
    found = Paths(PENALTY_S).next_hop(view, node(target), exclude, hops)
    possible = {way[1] for _, way in every_way(view, target, hops) if not passed & set(way)}
    assert (found is None) == (not possible)
    assert found is None or found in {node(n) for n in possible}


@settings(deadline=None, max_examples=50)
@given(views(), st.randoms(use_true_random=False))
def test_the_order_of_the_view_does_not_matter(view: View, random: object) -> None:
    shuffled = dataclasses.replace(
        view,
        adverts=dict(reversed(view.adverts.items())),  # type: ignore[arg-type, call-overload]
        links=dict(reversed(view.links.items())),  # type: ignore[arg-type, call-overload]
    )
    one, other = Tree(view, PENALTY_S), Tree(shuffled, PENALTY_S)
    assert [one.reach(n) for n in view.adverts] == [other.reach(n) for n in view.adverts]


def test_this_node_is_reached_without_a_hop() -> None:
    reach = Tree(mesh([(0, 1, 5)]), PENALTY_S).reach(ME, 0)
    assert reach is not None
    assert (reach.hops, reach.cost_s, reach.path, reach.next_hop) == (0, 0.0, (ME,), ME)


def test_a_neighbour_whose_link_broke_is_no_neighbour_whatever_it_says() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5)])
    broken = dataclasses.replace(view, links={})
    assert Tree(view, PENALTY_S).reach(node(2)) is not None
    assert Tree(broken, PENALTY_S).reach(node(1)) is None
    assert Tree(broken, PENALTY_S).reach(node(2)) is None


def test_own_measurement_counts_for_own_links() -> None:
    view = dataclasses.replace(mesh([(0, 1, 1)]), links={node(1): 0.3})
    reach = Tree(view, PENALTY_S).reach(node(1))
    assert reach is not None
    assert reach.cost_s == 0.3


def test_a_relay_must_save_more_than_it_costs() -> None:
    near = Tree(mesh([(0, 1, 10), (1, 2, 10), (0, 2, 35)]), PENALTY_S).reach(node(2))
    far = Tree(mesh([(0, 1, 10), (1, 2, 10), (0, 2, 50)]), PENALTY_S).reach(node(2))
    assert near is not None
    assert far is not None
    assert (near.hops, far.hops) == (1, 2)


def test_a_shorter_way_found_after_a_cheaper_one_is_kept() -> None:
    tree = Tree(mesh([(0, 1, 1), (1, 2, 1), (2, 4, 1), (0, 3, 100), (3, 4, 1)]), PENALTY_S)
    cheap, short = tree.reach(node(4), 3), tree.reach(node(4), 2)
    assert cheap is not None
    assert short is not None
    assert (cheap.path[1], short.path[1]) == (node(1), node(3))


def test_a_longer_chain_than_any_node_forwards_is_out_of_reach() -> None:
    tree = Tree(mesh([(n, n + 1, 1) for n in range(10)]), PENALTY_S)
    assert tree.reach(node(8)) is not None
    assert tree.reach(node(9), 20) is None


def test_a_tombstone_relays_nothing() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5)], changes={1: {"gone": True}})
    assert Tree(view, PENALTY_S).reach(node(2)) is None


def test_the_tree_is_kept_and_follows_the_views() -> None:
    paths = Paths(PENALTY_S)
    view = mesh([(0, 1, 5)])
    tree = paths.tree(view)
    assert paths.tree(dataclasses.replace(view)) is tree
    assert paths.tree(mesh([(0, 1, 5), (1, 2, 5)])) is tree
    assert tree.reach(node(2)) is not None


def test_views_without_a_number_are_never_mixed_up() -> None:
    paths = Paths(PENALTY_S)
    one = dataclasses.replace(mesh([(0, 1, 5)]), version=0)
    other = dataclasses.replace(mesh([(0, 2, 5)]), version=0)
    assert paths.next_hop(one, node(1)) == node(1)
    assert paths.next_hop(other, node(1)) is None
    assert paths.next_hop(other, node(2)) == node(2)
