"""Where each node of a graph is drawn: this one in the middle, each link of its way one ring farther out. Pure.

Every branch of the tree of ways has a sector as wide as it has leaves, so that ways never cross. The same graph is
always drawn the same way. Not for lines and colours (svg.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi, sin

from meshnode.cli.graph.report import Graph, GraphNode

RING_PX = 210.0
"""Between two rings at least."""

ROOM_PX = 150.0
"""Along a ring, for one node with its name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node's centre, this node at (0, 0), and the ring it stands on."""

    x: float
    y: float
    ring: int


def places(graph: Graph) -> dict[str, Place]:
    """A place for every node; those that no way leads to stand on the outermost ring."""
    rings = _rings(graph)
    leaves = _leaves(graph.me, rings.children)
    found = {graph.me: Place(0.0, 0.0, 0)}
    total = sum(leaves[node.id] for node in rings.children.get(graph.me, ())) + len(rings.gone)
    waiting = [(graph.me, -pi / 2, -pi / 2 + 2 * pi * (total - len(rings.gone)) / max(1, total))]
    while waiting:
        of, begin, end = waiting.pop()
        under = rings.children.get(of, [])
        width = (end - begin) / max(1, sum(leaves[node.id] for node in under))
        for node in under:
            until = begin + width * leaves[node.id]
            found[node.id] = _at(rings, found[of].ring + 1, (begin + until) / 2)
            waiting.append((node.id, begin, until))
            begin = until
    for number, node in enumerate(rings.gone):
        found[node.id] = _at(rings, rings.outermost, -pi / 2 - 2 * pi * (number + 0.5) / max(1, total))
    return found


@dataclass(frozen=True, slots=True)
class _Rings:
    children: Mapping[str | None, list[GraphNode]]
    gone: list[GraphNode]
    radii: list[float]

    @property
    def outermost(self) -> int:
        return max(1, len(self.radii) - 1)


def _rings(graph: Graph) -> _Rings:
    """How large each ring must be. A sector holds one node's room on every ring that it reaches."""
    children = graph.children()
    gone = children.get(None, [])
    deepest, leaves = _depth(graph.me, children), _leaves(graph.me, children)
    crowd = max(1, leaves[graph.me] + len(gone))
    first = max(RING_PX, crowd * ROOM_PX / (2 * pi) - RING_PX * max(0, deepest - 1))
    return _Rings(children, gone, [0.0, *(first + RING_PX * ring for ring in range(max(1, deepest)))])


def _at(rings: _Rings, ring: int, angle: float) -> Place:
    radius = rings.radii[min(ring, len(rings.radii) - 1)]
    return Place(radius * cos(angle), radius * sin(angle), ring)


def _order(root: str, children: Mapping[str | None, list[GraphNode]]) -> list[tuple[str, int]]:
    """Every node under `root` with its depth, parents before children. Ways that a hostile node told in a circle never
    hang under the root."""
    found, at = [(root, 0)], 0
    while at < len(found):
        of, depth = found[at]
        found += [(node.id, depth + 1) for node in children.get(of, ())]
        at += 1
    return found


def _depth(root: str, children: Mapping[str | None, list[GraphNode]]) -> int:
    return max(depth for _, depth in _order(root, children))


def _leaves(root: str, children: Mapping[str | None, list[GraphNode]]) -> dict[str, int]:
    """How many ends the tree has under each node; 1 for an end."""
    leaves: dict[str, int] = {}
    for node, _ in reversed(_order(root, children)):
        leaves[node] = max(1, sum(leaves[child.id] for child in children.get(node, ())))
    return leaves
