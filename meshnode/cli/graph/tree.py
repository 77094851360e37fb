"""The graph as text: the tree of cheapest ways from this node, then the links that no way uses, then tunnels. Pure.

A tree because a terminal shows any number of nodes that way. Counterpart: svg.py, which shows the whole net.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshnode.cli import words
from meshnode.cli.graph.report import Graph, GraphEdge, GraphNode

MOST_OTHERS = 40
"""Links beside the tree that are listed: of a full mesh of 16 there are a hundred."""


def lines(graph: Graph) -> Iterator[str]:
    """One after the other, without newlines."""
    known, edges = graph.by_id(), graph.edge_of()
    me = known.get(graph.me) or GraphNode(graph.me, name="this node")
    yield f"{_about(me)}  ← this node"
    children = graph.children()
    yield from _below(graph.me, "", children, edges)
    for node in children.get(None, ()):
        yield f"   {_about(node)}  gone"
    yield from _beside(graph, known)
    if graph.tunnels:
        yield ""
        yield "sealed tunnels of this node:"
        for tunnel in graph.tunnels:
            way = " > ".join(known[id_].label if id_ in known else id_[:9] for id_ in tunnel.way)
            yield f"   {way}  ({'opened here' if tunnel.opened else 'opened there'}, {tunnel.streams} streams)"
    if graph.tunnels_relayed:
        yield ""
        yield f"tunnels of others that pass through this node: {graph.tunnels_relayed}"


def _below(
    of: str, indent: str, children: dict[str | None, list[GraphNode]], edges: dict[frozenset[str], GraphEdge]
) -> Iterator[str]:
    """Depth first, without recursion deeper than the longest way, which the protocol bounds at eight links."""
    under = children.get(of, [])
    for number, node in enumerate(under, 1):
        last = number == len(under)
        edge = edges.get(frozenset((of, node.id)))
        rtt = edge.rtt if edge is not None else "?"
        yield f"{indent}{'└' if last else '├'}─ {rtt:>7} ─ {_about(node)}"
        yield from _below(node.id, indent + ("   " if last else "│  "), children, edges)


def _beside(graph: Graph, known: dict[str, GraphNode]) -> Iterator[str]:
    ways = {frozenset((node.parent, node.id)) for node in graph.nodes if node.parent is not None}
    others = [edge for edge in graph.edges if frozenset(edge.ends) not in ways]
    if not others:
        return
    yield ""
    if len(others) > MOST_OTHERS and 2 * len(graph.edges) == len(graph.nodes) * (len(graph.nodes) - 1):
        yield "all of them are linked with each other"
        return
    yield "links beside these ways:"
    for edge in others[:MOST_OTHERS]:
        one, other = (known[end].label if end in known else end[:9] for end in edge.ends)
        said = "" if edge.both else "  (only one end says so)"
        yield f"   {one} ─ {edge.rtt} ─ {other}{said}"
    if len(others) > MOST_OTHERS:
        yield f"   and {len(others) - MOST_OTHERS} more"


def _about(node: GraphNode) -> str:
    facts = [words.listed(node.models, most=3)] if node.models else []
    facts += ["draining"] if node.draining else []
    facts += [] if node.relays else ["does not relay"]
    return f"{node.label} ({node.short})" + (f"  {', '.join(facts)}" if facts else "")
