"""Handshakes of tunnels under way: bounded in all and for each neighbour, whatever it says whose they are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.mesh.threshold import Threshold
from meshnode.model.ids import NodeId
from tests.mesh.few import node_id

SECTION = MeshSection(half_open=6, handshakes_per_s=1, tunnels=4, tunnels_per_origin=2)
ORIGIN = node_id("origin")


class Neighbour(SimpleNamespace):
    """As much of a link as counts; hashed by identity, as links are."""

    __hash__ = object.__hash__


def link(name: str) -> Any:
    return Neighbour(peer=node_id(name))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_places_are_bounded_and_all_come_back(steps: list[tuple[bool, int, int]]) -> None:
    threshold = Threshold(node_id("me"), SECTION, list)
    links, held, now = [link(f"n{n}") for n in range(4)], [list[AbstractContextManager[None]]() for _ in range(4)], 0.0
    for begins, at, origin in steps:
        now += 60.0
        if begins:
            reason = threshold.full(links[at], node_id(f"origin-{origin}"), now)
            # Its own part is always there for one that ends its handshakes, while the others keep to theirs.
            assert (reason is None) == (len(held[at]) < 3 and sum(map(len, held)) < 6)
            if reason is None:
                held[at].append(threshold.under_way(links[at].peer))
                held[at][-1].__enter__()
        elif held[at]:
            held[at].pop().__exit__(None, None, None)
        assert len(threshold) == sum(map(len, held))
    for scope in (scope for scopes in held for scope in scopes):
        scope.__exit__(None, None, None)
    assert len(threshold) == 0 and not threshold._half_open


def test_a_neighbour_brings_so_many_at_once_and_so_many_a_second_whoever_they_are_of() -> None:
    threshold, one, other = Threshold(node_id("me"), SECTION, list), link("one"), link("other")
    let_in = [threshold.full(one, node_id(f"origin-{n}"), 0.0) is None for n in range(8)]
    assert let_in == [True] * 6 + [False] * 2
    assert threshold.full(other, ORIGIN, 0.0) is None
    assert threshold.full(one, ORIGIN, 1.5) is None and threshold.full(one, ORIGIN, 1.5) is not None


def test_virtual_links_are_bounded_for_one_origin_and_for_all() -> None:
    served: list[NodeId] = []
    threshold = Threshold(node_id("me"), SECTION, lambda: served)
    served += [ORIGIN]
    assert threshold.crowded(ORIGIN) is None
    served += [ORIGIN]
    assert "of " + ORIGIN.short in str(threshold.crowded(ORIGIN))
    assert threshold.crowded(node_id("other")) is None
    served += [node_id("other")] * 2
    assert "as many tunnels as it takes" in str(threshold.crowded(node_id("third")))
