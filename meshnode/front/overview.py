"""The mesh as one JSON document: what `GET /mesh/status`, `meshnode status`, `models`, `peers` and `ps` show.

Read from gossip state and paths, never by asking peers (complaint 25). Not for OpenAI's model list (dialects.openai).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture
from meshnode.model.view import View
from meshnode.routing import Tree


class Overview:
    """Turns views into lists for people, and remembers since when a peer is gone."""

    def __init__(self) -> None:
        self._gone_since: dict[NodeId, float] = {}

    def reachable(self, view: View, tree: Tree) -> View:
        """The view without nodes that no path leads to."""
        kept = {node: advert for node, advert in view.adverts.items() if node == view.me or tree.cheapest(node)}
        return dataclasses.replace(view, adverts=kept)

    def models(self, view: View) -> list[dict[str, Any]]:
        """Every model of a reachable view by name, with the nodes that have it and the largest context."""
        found: dict[str, dict[str, Any]] = {}
        for node in sorted(view.adverts, key=lambda node: (node != view.me, node)):
            for offer in (offer for offer in view.adverts[node].models if not offer.down):
                entry = found.setdefault(offer.name, {"name": offer.name, "context": 0, "features": [], "nodes": []})
                entry["context"] = max(entry["context"], offer.context)
                entry["features"] = sorted({*entry["features"], *offer.features})
                place = {"id": node.text, "name": view.name(node), "loaded": offer.loaded, "slots": offer.slots}
                entry["nodes"].append(place)
        return [found[name] for name in sorted(found)]

    def peers(
        self, view: View, tree: Tree, now: float, standing: Callable[[NodeId], Mapping[str, Any]] = lambda _: {}
    ) -> list[dict[str, Any]]:
        """One entry a known peer: linked, reached through others, or gone. `standing` adds what the member knows of
        it: address in use, roles, whether it is pinned, who invited it."""
        self._gone_since = {node: at for node, at in self._gone_since.items() if node in view.adverts}
        peers = ((node, advert) for node, advert in view.adverts.items() if node != view.me)
        by_name = sorted(peers, key=lambda item: (view.name(item[0]), item[0]))
        return [{**self._peer(view, tree, node, advert, now), **standing(node)} for node, advert in by_name]

    def _peer(self, view: View, tree: Tree, node: NodeId, advert: Advert, now: float) -> dict[str, Any]:
        reach = tree.reach(node)
        if reach is None:
            since = self._gone_since.setdefault(node, now)
        else:
            since = now
            self._gone_since.pop(node, None)
        via = view.name(reach.next_hop) if reach is not None and reach.hops > 1 else None
        return {
            "id": node.text,
            "short": node.short,
            "name": view.name(node),
            "state": "gone" if reach is None else "direct" if via is None else "relay",
            "via": via,
            "links": sorted(view.name(NodeId(neighbour.id)) for neighbour in advert.neighbours),
            "path": [view.name(step) for step in reach.path] if reach is not None else [],
            "rtt_ms": round(reach.cost_s * 1000, 3) if reach is not None else None,
            "models": [offer.name for offer in advert.models if not offer.down],
            "slots": sum(offer.slots for offer in advert.models if not offer.down),
            "queue": None,
            "owner": advert.owner,
            # What was verified here; its own word stands beside it and counts for nothing.
            "posture": view.postures.get(node, Posture.CLAIMED).word,
            "claims": advert.posture,
            "version": advert.version,
            "addresses": list(advert.addresses),
            "gpu": advert.hardware.gpu,
            "draining": advert.draining,
            "last_seen_s": round(now - since, 1),
        }
