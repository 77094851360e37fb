"""A tree that followed the views of a mesh has the ways of one that is made anew."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.view import View
from meshnode.routing import Tree
from meshnode.routing.tree import MENDED, MOST_HOPS
from tests.routing.build import ME, mesh, node, offer

PENALTY_S = 0.02
NODES = 9

PAIRS = [(a, b) for a in range(NODES) for b in range(a)]

graphs = st.dictionaries(st.sampled_from(PAIRS), st.integers(0, 40), min_size=4)
"""Round trips by pair; a short scale, so that there are many ways of one length."""

changes = st.lists(
    st.one_of(
        st.tuples(st.just("link"), st.sampled_from(PAIRS), st.one_of(st.none(), st.integers(0, 40))),
        st.tuples(st.just("one side"), st.permutations(range(NODES)).map(lambda two: tuple(two[:2])), st.none()),
        st.tuples(st.sampled_from(["relay", "draining", "loaded"]), st.integers(1, NODES - 1), st.booleans()),
    ),
    min_size=1,
    max_size=12,
)


class Story:
    """A mesh as it changes."""

    def __init__(self, links: dict[tuple[int, int], int]) -> None:
        self.links = dict(links)
        self.deaf: set[tuple[int, int]] = set()
        self.fields: dict[int, dict[str, Any]] = {number: {} for number in range(NODES)}

    def change(self, what: str, which: Any, value: Any) -> None:
        if what == "link" and value is None:
            self.links.pop(which, None)
        elif what == "link":
            self.links[which] = value
        elif what == "one side":
            self.deaf ^= {which}
        elif what == "loaded":
            self.fields[which]["models"] = (offer(loaded=value),)
        else:
            self.fields[which][what] = value

    def view(self, before: View | None) -> View:
        made = mesh([(a, b, ms) for (a, b), ms in self.links.items()], NODES, self.fields)
        adverts = dict(made.adverts)
        for number in range(NODES):
            heard = {bytes(node(other)) for one, other in self.deaf if one == number}
            kept = tuple(one for one in adverts[node(number)].neighbours if one.id not in heard)
            adverts[node(number)] = msgspec.structs.replace(adverts[node(number)], neighbours=kept)
        if before is not None:
            # What says the same is the same object, as in a running node.
            adverts = {n: before.adverts[n] if before.adverts[n] == advert else advert for n, advert in adverts.items()}
        return dataclasses.replace(made, adverts=adverts)


def ways(tree: Tree) -> list[list[float | None]]:
    found = [[tree.reach(node(n), hops) for hops in range(MOST_HOPS + 1)] for n in range(NODES)]
    return [[None if way is None else round(way.cost_s, 9) for way in row] for row in found]


def is_a_way(view: View, path: tuple[Any, ...], cost_s: float) -> bool:
    """Whether each link is there, every node between relays, and the costs add up."""
    cost = PENALTY_S * max(0, len(path) - 2)
    for one, other in pairwise(path):
        if one == ME:
            cost += view.links[other]
            continue
        advert = view.adverts[one]
        there = {near.id: near.rtt_ms for near in advert.neighbours}[bytes(other)]
        back = {near.id: near.rtt_ms for near in view.adverts[other].neighbours}[bytes(one)]
        if not advert.relay or advert.draining:
            return False
        cost += max(there, back) / 1000
    return abs(cost - cost_s) < 1e-9


@settings(deadline=None, max_examples=300)
@given(graphs, changes, st.integers(1, 4))
def test_following_ends_where_searching_anew_does(
    links: dict[tuple[int, int], int], story: list[tuple[str, Any, Any]], at_once: int
) -> None:
    told = Story(links)
    view = told.view(None)
    tree = Tree(view, PENALTY_S)
    for number, change in enumerate(story, 1):
        told.change(*change)
        if number % at_once:
            continue
        before, old = tree.version, {n: tree.cheapest(node(n)) for n in range(NODES)}
        view = told.view(view)
        assert tree.follow(view)
        assert ways(tree) == ways(Tree(view, PENALTY_S))
        for n in range(NODES):
            for hops in range(MOST_HOPS + 1):
                reach = tree.reach(node(n), hops)
                assert reach is None or is_a_way(view, reach.path, reach.cost_s)
        changed = tree.changed_since(before)
        assert changed is not None
        assert {node(n) for n in range(NODES) if tree.cheapest(node(n)) != old[n]} <= changed


def test_news_of_other_things_change_nothing() -> None:
    view = mesh([(0, 1, 5), (1, 2, 5)])
    tree = Tree(view, PENALTY_S)
    adverts = {**view.adverts, node(1): msgspec.structs.replace(view.adverts[node(1)], models=(), sequence=2)}
    assert tree.follow(dataclasses.replace(view, adverts=adverts, version=view.version + 1))
    assert (tree.version, tree.changed_since(0)) == (0, frozenset())


def test_other_nodes_need_another_tree() -> None:
    tree = Tree(mesh([(0, 1, 5)]), PENALTY_S)
    assert not tree.follow(mesh([(0, 1, 5), (1, 2, 5)]))


def test_what_changed_long_ago_is_not_remembered() -> None:
    tree = Tree(mesh([(0, 1, 5)]), PENALTY_S)
    for number in range(MENDED + 1):
        assert tree.follow(mesh([(0, 1, 6 + number)]))
    assert tree.changed_since(0) is None
    assert tree.changed_since(1) == frozenset({node(1)})


def test_in_a_large_mesh_too() -> None:
    rng = Random(3)
    links = {(a, b): rng.randint(1, 40) for a in range(1, 150) for b in rng.sample(range(a), min(a, 3))}
    view = mesh([(a, b, ms) for (a, b), ms in links.items()])
    tree = Tree(view, PENALTY_S)
    for _ in range(150):
        for pair in rng.sample(sorted(links), 3):
            del links[pair]
        for _ in range(3):
            one, other = rng.sample(range(150), 2)
            links[max(one, other), min(one, other)] = rng.randint(1, 40)
        fresh = mesh([(a, b, ms) for (a, b), ms in links.items()], 150)
        adverts = {n: old if (old := view.adverts[n]) == advert else advert for n, advert in fresh.adverts.items()}
        view = dataclasses.replace(fresh, adverts=adverts)
        assert tree.follow(view)
        other_tree = Tree(view, PENALTY_S)
        for number in range(150):
            mended, anew = tree.reach(node(number)), other_tree.reach(node(number))
            assert (mended is None) == (anew is None)
            assert mended is None or anew is None or abs(mended.cost_s - anew.cost_s) < 1e-9
            assert mended is None or is_a_way(view, mended.path, mended.cost_s)
