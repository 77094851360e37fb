"""The mesh as nodes and edges, with the tunnels of this node: what `GET /mesh/graph` and `meshnode peers --graph` show.

An edge is what adverts say: who names whom, and the larger of the round trips named, as paths are chosen by it. Pure;
not for lists of peers (overview.py) nor for choosing ways (routing.path). Counterpart: cli.graph, which draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing import Reach, Tree


class Tunnel(NamedTuple):
    """A sealed link of this node through relays. `way`: this node first, the peer last; `opened`: by this node."""

    way: tuple[NodeId, ...]
    opened: bool
    streams: int


def graph(view: View, tree: Tree, tunnels: Iterable[Tunnel] = (), relayed: int = 0) -> dict[str, Any]:
    """The whole document; `relayed` counts tunnels of others that pass through this node."""
    nodes = sorted({view.me, *view.adverts, *view.links}, key=lambda node: (node != view.me, view.name(node), node))
    return {
        "me": view.me.text,
        "nodes": [_node(view, tree, node) for node in nodes],
        "edges": _edges(view),
        "tunnels": [
            {"peer": tunnel.way[-1].text, "way": [node.text for node in tunnel.way], "opened": tunnel.opened,
             "streams": tunnel.streams}
            for tunnel in tunnels
        ],
        "tunnels_relayed": relayed,
    }  # fmt: skip


def _node(view: View, tree: Tree, node: NodeId) -> dict[str, Any]:
    advert = view.adverts.get(node)
    reach = tree.reach(node)
    offers = [offer for offer in advert.models if not offer.down] if advert is not None else []
    return {
        "id": node.text,
        "short": node.short,
        "name": view.name(node),
        "state": "me" if node == view.me else _state(reach),
        "path": [step.text for step in reach.path] if reach is not None else [],
        "rtt_ms": round(reach.cost_s * 1000, 3) if reach is not None else None,
        "models": [offer.name for offer in offers],
        "slots": sum(offer.slots for offer in offers),
        "owner": advert.owner if advert is not None else "",
        "relays": advert.relay if advert is not None else False,
        "draining": advert.draining if advert is not None else False,
    }


def _state(reach: Reach | None) -> str:
    return "gone" if reach is None else "direct" if reach.hops == 1 else "relay"


def _edges(view: View) -> list[dict[str, Any]]:
    """Each pair once, the lower id first. This node's own links are known and not heard: they say what is measured."""
    said: dict[tuple[NodeId, NodeId], dict[NodeId, int]] = {}
    for node, advert in view.adverts.items():
        for other, rtt_ms in _named(advert).items():
            if other != node:
                said.setdefault((min(node, other), max(node, other)), {})[node] = rtt_ms
    for peer in view.links:
        said.setdefault((min(view.me, peer), max(view.me, peer)), {})
    return [_edge(view, pair, by) for pair, by in sorted(said.items())]


def _named(advert: Advert) -> Mapping[NodeId, int]:
    return {NodeId(neighbour.id): neighbour.rtt_ms for neighbour in advert.neighbours}


def _edge(view: View, pair: tuple[NodeId, NodeId], by: Mapping[NodeId, int]) -> dict[str, Any]:
    mine = next((view.links[node] for node in pair if view.me in pair and node in view.links), None)
    return {
        "ends": [node.text for node in pair],
        "rtt_class_ms": max(by.values(), default=None),
        "rtt_ms": round(mine * 1000, 3) if mine is not None else None,
        "said_by": [node.text for node in pair if node in by],
        "both": len(by) == len(pair),
        "linked": mine is not None,
    }
