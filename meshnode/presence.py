"""What a running node shows of itself: status, models, health, metrics, and the doors that the front opens onto it.

Read-only but for invite and join, which it passes to the member. Not for composing the node (node.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from meshnode.dialects import ModelCard, cards
from meshnode.engine import Memory
from meshnode.front import Doors
from meshnode.front.overview import Overview
from meshnode.identity.invites import MAX_LIFETIME_S
from meshnode.model.view import View
from meshnode.observe.metrics import CONTENT_TYPE
from meshnode.version import __version__

if TYPE_CHECKING:
    from meshnode.node import Node

TRUST_MODE = "ca"
"""Members are those whom a certificate chain from the mesh's root makes members (protocol.md §1)."""


class Presence:
    """The face of one node. Made by it, once everything else is built."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._overview = Overview()
        self._created = int(time.time())
        self._started = trio.current_time()
        self._gauges()

    def doors(self, control_secret: str) -> Doors:
        """What the front may call."""
        return Doors(
            me=self._node.id,
            dispatch=self._node.dispatcher.dispatch,
            models=self.cards,
            status=self.status,
            health=self.health,
            ready=lambda: "draining" if self._node.local.draining else None,
            metrics=lambda: (CONTENT_TYPE, self._node.metrics.render()),
            invite=self.invite,
            join=self.join,
            control_secret=control_secret,
        )

    def cards(self) -> list[ModelCard]:
        """Models that can be reached now."""
        return cards(self._view(), self._created)

    def model_names(self) -> list[str]:
        """Their names."""
        return [card.id for card in self.cards()]

    def peers(self) -> list[dict[str, Any]]:
        """Other nodes: linked, reached through others, or gone."""
        view = self._node.member.view()
        return self._overview.peers(view, self._node.router.known.paths.tree(view), trio.current_time())

    def health(self) -> dict[str, Any]:
        """That this process lives, and as whom."""
        node = self._node
        mesh = node.member.membership.mesh
        return {"meshnode": node.id.text, "name": node.name, "mesh": mesh.name, "trust": TRUST_MODE}

    def status(self) -> dict[str, Any]:
        """Everything `meshnode status`, `models`, `peers` and `ps` print."""
        node, view = self._node, self._view()
        mesh = node.member.membership.mesh
        return {
            "node": {
                "id": node.id.text,
                "short": node.id.short,
                "name": node.name,
                "version": __version__,
                "uptime_s": round(trio.current_time() - self._started, 1),
                "draining": node.local.draining,
                "owner": node.config.node.owner,
            },
            "mesh": {
                "id": node.member.mesh_id.text,
                "name": mesh.name,
                "trust": TRUST_MODE,
                "address": node.mesh_address,
                "addresses": list(node.member.addresses),
                "nodes": len(view.adverts),
            },
            "api": node.api,
            "hardware": _hardware(node.memory),
            "engines": self._engines(),
            "models": self._overview.models(view),
            "peers": self.peers(),
            "requests": self._requests(),
        }

    async def invite(self, expires_s: float | None) -> Mapping[str, Any]:
        """A new invite and how long it lives, in seconds."""
        lifetime_s = int(min(expires_s if expires_s is not None else MAX_LIFETIME_S, MAX_LIFETIME_S))
        token = self._node.member.invite(max(1, lifetime_s))
        return {"token": token, "expires_s": lifetime_s}

    async def join(self, token: str) -> Mapping[str, Any]:
        """Use an invite; who is there."""
        names = await self._node.member.join(token)
        return {"mesh": self._node.member.membership.mesh.name, "nodes": names}

    def _view(self) -> View:
        view = self._node.member.view()
        return self._overview.reachable(view, self._node.router.known.paths.tree(view))

    def _engines(self) -> list[dict[str, Any]]:
        """Engines as they say themselves, with what waits at their gates."""
        loads = {engine.name: self._node.local.load(engine) for engine in self._node.engines.engines()}
        return [
            {**line, "busy": loads[line["name"]].busy, "queued": loads[line["name"]].queued}
            if line["name"] in loads
            else {**line, "busy": 0, "queued": 0}
            for line in self._node.engines.status()
        ]

    def _requests(self) -> dict[str, int]:
        dispatcher, inbound = self._node.dispatcher, self._node.inbound
        queued = sum(self._node.local.load(engine).queued for engine in self._node.engines.engines())
        return {
            "running": dispatcher.running,
            "for_peers": inbound.running,
            "queued": queued,
            "answered": dispatcher.answered,
            "failed": dispatcher.failed,
        }

    def _gauges(self) -> None:
        node = self._node
        metrics = node.metrics
        metrics.gauge("meshnode_requests_running", "Requests of this node's clients.", lambda: node.dispatcher.running)
        metrics.gauge("meshnode_jobs_running", "Jobs of other nodes.", lambda: node.inbound.running)
        metrics.gauge("meshnode_links", "Links that are up.", lambda: len(node.member.view().links))
        metrics.gauge(
            "meshnode_nodes", "Nodes that can be reached, this one included.", lambda: len(self._view().adverts)
        )


def _hardware(found: Memory) -> dict[str, Any]:
    hardware = found.hardware
    gpus = [{"name": hardware.gpu, "count": hardware.gpus, "memory_bytes": hardware.vram_bytes,
             "free_bytes": found.free_vram_bytes}] if hardware.gpus else []  # fmt: skip
    return {"gpus": gpus, "memory_bytes": hardware.memory_bytes, "free_bytes": found.free_memory_bytes}
