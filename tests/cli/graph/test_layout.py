"""Every node has a place of its own, on the ring that its way is long, whatever the graph."""

from __future__ import annotations

from math import hypot
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.cli.graph.layout import places
from meshnode.cli.graph.report import Graph, GraphNode


@st.composite
def trees(draw: st.DrawFn) -> Graph:
    """Each node hangs under one before it, or is gone."""
    paths: list[tuple[str, ...]] = [("n0",)]
    for number in range(1, draw(st.integers(1, 40))):
        under = draw(st.sampled_from([None, *(path for path in paths if 0 < len(path) < 9)]))
        paths.append((*under, f"n{number}") if under is not None else ())
    nodes = [GraphNode(f"n{number}", path=path) for number, path in enumerate(paths)]
    return Graph("n0", tuple(nodes))


@given(trees())
def test_everybody_has_a_place_and_nobody_stands_on_another(graph: Graph) -> None:
    found = places(graph)
    assert set(found) == {node.id for node in graph.nodes}
    dots = list(found.values())
    for number, one in enumerate(dots):
        assert all(hypot(one.x - other.x, one.y - other.y) > 40 for other in dots[:number])


@given(trees())
def test_a_longer_way_stands_farther_out(graph: Graph) -> None:
    found = places(graph)
    for node in graph.nodes:
        if node.path:
            assert found[node.id].ring == len(node.path) - 1
    radii = {place.ring: hypot(place.x, place.y) for place in found.values()}
    assert sorted(radii.values()) == [radii[ring] for ring in sorted(radii)]


def test_the_same_graph_is_drawn_the_same_way() -> None:
    graph = Graph("a", (GraphNode("a", path=("a",)), GraphNode("b", path=("a", "b")), GraphNode("c")))
    assert places(graph) == places(graph)


@pytest.mark.parametrize("path", [("b", "c", "b"), ("x", "b"), ("b",), ("c", "b")])
def test_a_way_that_makes_no_sense_ends_in_no_loop(path: Any) -> None:
    graph = Graph("a", (GraphNode("a"), GraphNode("b", path=path), GraphNode("c", path=("a", "b", "c"))))
    assert places(graph)["a"].ring == 0
