"""The mesh as one JSON document: what `GET /mesh/status`, `meshnode status`, `models`, `peers` and `ps` show.

A pure view over what node.py hands in; answered from gossip state, never by asking peers (complaint 25).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.routing.path import Reach


def models(view: View, reach: Mapping[NodeId, Reach]) -> list[dict[str, Any]]:
    """Every model that a reachable node offers, by name, with the nodes that have it and the largest context."""
    found: dict[str, dict[str, Any]] = {}
    for node in sorted(view.adverts, key=lambda node: (node != view.me, node)):
        if node != view.me and node not in reach:
            continue
        for offer in view.adverts[node].models:
            entry = found.setdefault(offer.name, {"name": offer.name, "context": 0, "features": [], "nodes": []})
            entry["context"] = max(entry["context"], offer.context)
            entry["features"] = sorted({*entry["features"], *offer.features})
            entry["nodes"].append(
                {"id": node.text, "name": view.name(node), "loaded": offer.loaded, "slots": offer.slots}
            )
    return sorted(found.values(), key=lambda entry: str(entry["name"]))


def peers(view: View, reach: Mapping[NodeId, Reach], gone: Mapping[NodeId, Advert]) -> list[dict[str, Any]]:
    """One entry a known peer: linked, reached through others, or gone."""
    listed: list[dict[str, Any]] = []
    for node, advert in sorted({**gone, **view.adverts}.items(), key=lambda item: (item[1].name, item[0])):
        if node == view.me:
            continue
        path = reach.get(node)
        direct = node in view.links
        state = "direct" if direct else "relay" if path is not None and node in view.adverts else "gone"
        listed.append(
            {
                "id": node.text,
                "short": node.short,
                "name": view.name(node) if node in view.adverts else advert.name or node.short,
                "state": state,
                "via": view.name(path.path[1]) if state == "relay" and path is not None else None,
                "rtt_ms": round(path.cost_s * 1000, 3) if path is not None and state != "gone" else None,
                "models": [offer.name for offer in advert.models] if state != "gone" else [],
                "slots": sum(offer.slots for offer in advert.models) if state != "gone" else 0,
                "queue": None,
                "owner": advert.owner,
                "posture": advert.posture,
                "version": advert.version,
                "addresses": list(advert.addresses),
                "gpu": advert.hardware.gpu,
                "draining": advert.draining,
            }
        )
    return listed


def model_names(view: View, reach: Mapping[NodeId, Reach]) -> Sequence[str]:
    """Names that a request may ask for now."""
    return [str(entry["name"]) for entry in models(view, reach)]
