"""Ways through the mesh: the tree that holds for a view, and ways past nodes to be avoided. Pure; protocol.md §6.

The graph comes from adverts, and each hop asks again with its own view, so a way is advice for everyone but the next
hop. Not for choosing servers (plan). Counterpart: tree.py.
"""

from __future__ import annotations

from collections.abc import Collection

from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing.tree import MOST_HOPS, Reach, Tree


class Paths:
    """The tree of the newest view, which follows from view to view."""

    def __init__(self, relay_penalty_s: float) -> None:
        self._relay_penalty_s = relay_penalty_s
        self._view: View | None = None
        self._tree: Tree | None = None

    def tree(self, view: View) -> Tree:
        """All ways from `view.me`. Good until it is asked for another view."""
        if (
            self._tree is None
            or self._view is None
            or (not same_view(view, self._view) and not self._tree.follow(view))
        ):
            self._tree = Tree(view, self._relay_penalty_s)
        self._view = view
        return self._tree

    def reach(
        self, view: View, target: NodeId, exclude: Collection[NodeId] = (), hops_left: int = MOST_HOPS
    ) -> Reach | None:
        """The cheapest way to `target` past `exclude` in at most `hops_left` hops; None if there is none. Another tree
        is made only where the known way leads through `exclude`."""
        if view.me in exclude or target in exclude:
            return None
        tree = self.tree(view)
        reach = tree.reach(target, hops_left)
        if reach is not None and not set(exclude).isdisjoint(reach.path):
            reach = tree.without(exclude).reach(target, hops_left)
        return reach

    def next_hop(
        self, view: View, target: NodeId, exclude: Collection[NodeId] = (), hops_left: int = MOST_HOPS
    ) -> NodeId | None:
        """Whom to hand a job for `target` that has passed `exclude` and may take `hops_left` more hops; None if there
        is nobody."""
        reach = self.reach(view, target, exclude, hops_left)
        return reach.next_hop if reach is not None else None


def same_view(one: View, other: View) -> bool:
    """Whether what was derived from one view holds for the other. Version 0 is a view nobody numbered."""
    return one is other or (one.version == other.version > 0 and one.me == other.me)
