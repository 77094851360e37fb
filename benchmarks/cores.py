"""Which processor cores each process may use, so that figures of one core per node are that.

The engine and the load generator share the first core and each node has its own. Where there are fewer cores than
that, nothing is pinned: two nodes forced onto one core each would starve beside engine and load. CPU time per
request, which says the same either way, is then the figure to trust, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """Cores of the engine and the load, and of each node in turn."""

    load: frozenset[int]
    nodes: tuple[frozenset[int], ...]
    pinned: bool


def layout(cores: Iterable[int], nodes: int) -> Layout:
    """How so many processes under test share these cores."""
    ordered = sorted(cores)
    everywhere = frozenset(ordered)
    if len(ordered) < nodes + 1:
        return Layout(everywhere, (everywhere,) * nodes, pinned=False)
    single = [frozenset({core}) for core in ordered]
    return Layout(single[0], tuple(single[1 : nodes + 1]), pinned=True)
