"""What `GET /mesh/graph` says, as types, and the few questions that drawing asks of it. Pure.

Unknown fields are ignored and missing ones have defaults, as in cli.report. The writer is front.graph.
"""

from __future__ import annotations

from typing import Any

import msgspec

from meshnode.errors import DecodeError


class GraphNode(msgspec.Struct, frozen=True):
    """`path`: ids from the asked node to this one; empty for one that cannot be reached."""

    id: str
    short: str = ""
    name: str = ""
    state: str = ""
    path: tuple[str, ...] = ()
    rtt_ms: float | None = None
    models: tuple[str, ...] = ()
    owner: str = ""
    relays: bool = True
    draining: bool = False

    @property
    def parent(self) -> str | None:
        """The last node on the way to it."""
        return self.path[-2] if len(self.path) > 1 else None

    @property
    def label(self) -> str:
        """What people call it; names come from other machines."""
        return "".join(character for character in self.name if character.isprintable()) or self.short or self.id[:9]


class GraphEdge(msgspec.Struct, frozen=True):
    """`both`: each end names the other, without which nobody's way leads over it."""

    ends: tuple[str, str]
    rtt_class_ms: int | None = None
    rtt_ms: float | None = None
    said_by: tuple[str, ...] = ()
    both: bool = False
    linked: bool = False

    @property
    def rtt(self) -> str:
        """In the fewest characters: measured where this node did, else the class that was told."""
        if self.rtt_ms is not None:
            return f"{self.rtt_ms:.1f} ms" if self.rtt_ms < 10 else f"{self.rtt_ms:.0f} ms"
        return f"≤{self.rtt_class_ms} ms" if self.rtt_class_ms is not None else "?"


class GraphTunnel(msgspec.Struct, frozen=True):
    peer: str
    way: tuple[str, ...] = ()
    opened: bool = False
    streams: int = 0


class Graph(msgspec.Struct, frozen=True):
    """The mesh as one node sees it."""

    me: str
    nodes: tuple[GraphNode, ...] = ()
    edges: tuple[GraphEdge, ...] = ()
    tunnels: tuple[GraphTunnel, ...] = ()
    tunnels_relayed: int = 0

    def by_id(self) -> dict[str, GraphNode]:
        """Every node, found by its id."""
        return {node.id: node for node in self.nodes}

    def edge_of(self) -> dict[frozenset[str], GraphEdge]:
        """Every edge, found by its ends."""
        return {frozenset(edge.ends): edge for edge in self.edges}

    def children(self) -> dict[str | None, list[GraphNode]]:
        """The tree of ways: under each node those that are reached over it, in the order told. Under None: nodes that
        no way leads to."""
        known = self.by_id()
        found: dict[str | None, list[GraphNode]] = {}
        for node in self.nodes:
            if node.id != self.me:
                parent = node.parent
                found.setdefault(parent if parent in known else None, []).append(node)
        return found


def read(document: Any) -> Graph:
    """Raises DecodeError when the document is not a mesh's graph."""
    try:
        return msgspec.convert(document, Graph, strict=False)
    except msgspec.ValidationError as error:
        raise DecodeError(f"this is not a mesh's graph: {error}") from error
