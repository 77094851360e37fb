"""What a running node shows of itself: status, models, health, metrics, and the doors that the front opens onto it.

Not for composing the node (node.py) nor for what people tell it to do (commands.py).
"""

from __future__ import annotations

import dataclasses
import time
from random import SystemRandom
from typing import TYPE_CHECKING, Any

import trio

from meshnode.commands import Commands
from meshnode.dialects import ModelCard, cards, with_aliases, with_outside
from meshnode.dispatch import journal
from meshnode.engine import Memory
from meshnode.front import Doors, Keyring
from meshnode.front.graph import Tunnel, graph
from meshnode.front.overview import Overview
from meshnode.mesh import meters
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.view import View
from meshnode.observe.metrics import CONTENT_TYPE
from meshnode.routing import explain
from meshnode.version import __version__

if TYPE_CHECKING:
    from meshnode.node import Node


SHOWN = 100
"""Requests of those that wait at one engine that are listed one by one."""


class Presence:
    """The face of one node. Made by it, once everything else is built."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._overview = Overview()
        self._created = int(time.time())
        self._started = trio.current_time()
        self._gauges()

    def doors(self, keys: Keyring) -> Doors:
        """What the front may call."""
        return Doors(
            me=self._node.id,
            dispatch=self._node.sharing.dispatch,
            models=self.cards,
            status=self.status,
            graph=self.graph,
            health=self.health,
            ready=lambda: "draining" if self._node.local.draining else None,
            metrics=lambda: (CONTENT_TYPE, self._node.metrics.render()),
            control=Commands(self._node, keys),
            keys=keys,
            explain=self.explain,
            requests=self.requests,
            request=self.request,
            queued=self._node.dispatcher.place,
        )

    def explain(self, job: Job) -> dict[str, Any]:
        """Where the job would go now. It goes nowhere."""
        node = self._node
        job = dataclasses.replace(node.router.constrain(job), hops_left=node.config.dispatch.hops)
        view, now = node.member.view(), trio.current_time()
        plan = node.router.consider(job, view, node.local.state(), SystemRandom(), now, everybody=True)
        told = explain(plan, view)
        if plan.refusal is not None and node.outside is not None:
            told["outside"] = node.outside.explain(job, plan.refusal)
        return told

    def requests(self, many: int) -> list[dict[str, Any]]:
        """The last requests of this node's clients, the newest first."""
        view, now = self._node.member.view(), trio.current_time()
        recent = self._node.dispatcher.journal.recent(many)
        return [self._placed(journal.brief(entry, view, now)) for entry in recent]

    def request(self, request: str) -> dict[str, Any] | None:
        """One of them in full."""
        entry = self._node.dispatcher.journal.find(request)
        if entry is None:
            return None
        return self._placed(journal.report(entry, self._node.member.view(), trio.current_time()))

    def _placed(self, told: dict[str, Any]) -> dict[str, Any]:
        """With the place in a queue of this node of one that waits here."""
        if told["outcome"] == "running" and (place := self._node.local.position(told["id"])):
            told["place"] = place
        return told

    def cards(self) -> list[ModelCard]:
        """Models that can be reached now."""
        view = self._view()
        known = with_aliases(cards(view, self._created), self._node.router.aliases.models(), self._created)
        return with_outside(known, self._node.config.cloud.models(), self._created)

    def model_names(self) -> list[str]:
        """Their names."""
        return [card.id for card in self.cards()]

    def peers(self) -> list[dict[str, Any]]:
        """Other nodes: linked, reached through others, or gone."""
        view = self._node.member.view()
        tree = self._node.router.known.paths.tree(view)
        return self._overview.peers(view, tree, trio.current_time(), self._standing)

    def health(self) -> dict[str, Any]:
        """That this process lives, as whom, and for how long its mesh believes it."""
        node = self._node
        mesh, standing = node.member.membership.mesh, node.member.standing()
        told = {word: standing[word] for word in ("trust", "member_until", "revoked")}
        return {"meshnode": node.id.text, "name": node.name, "mesh": mesh.name} | told

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
                "sharing": node.local.share.status(),
                "owner": node.member.owner,
            },
            "mesh": {
                "id": node.member.mesh_id.text,
                "name": mesh.name,
                "address": node.mesh_address,
                "addresses": list(node.member.addresses),
                "nodes": len(view.adverts),
                "mdns": node.config.mesh.mdns,
                **node.member.standing(),
            },
            "api": node.api,
            "hardware": _hardware(node.description.memory),
            "engines": self._engines(),
            "waiting": self._waiting(),
            "models": self._overview.models(view),
            "peers": self.peers(),
            "requests": self._requests(),
            "receipts": node.receipts.status(),
            "cloud": node.outside.state() if node.outside is not None else None,
        }

    def graph(self) -> dict[str, Any]:
        """Nodes, links and tunnels, as `meshnode peers --graph` draws them."""
        view, tunnels = self._node.member.view(), self._node.member.mesh.tunnels
        sealed = [Tunnel(life.way, life.opened, life.link.streams) for life in tunnels.lives]
        return graph(view, self._node.router.known.paths.tree(view), sealed, len(tunnels.relay))

    def _standing(self, node: NodeId) -> dict[str, Any]:
        """What the member knows of a peer beyond its advert."""
        member = self._node.member
        link, inviter = member.link(node), member.invited_by(node)
        return {
            "address": (link.address or link.remote_host or None) if link is not None else None,
            "roles": sorted(member.roles(node)),
            "pinned": member.pinned(node),
            "invited_by": inviter.text if inviter is not None else None,
        }

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

    def _waiting(self) -> list[dict[str, Any]]:
        """Who waits for a slot of this node's engines, next first, of each engine at most SHOWN."""
        return [
            {
                "engine": engine,
                "owner": self._account(one.owner),
                "tier": one.tier.name.lower(),
                "position": one.position,
                "age_s": round(one.age_s, 1),
            }
            for engine, one in self._node.local.waiting()
            if one.position <= SHOWN
        ]

    def _account(self, account: str) -> str:
        """An account of admission for people: the owner's name, or the node's."""
        kind, _, name = account.partition(":")
        if kind == "owner":
            return "".join(filter(str.isprintable, name))
        return self._node.member.view().name(NodeId.parse(name))

    def _requests(self) -> dict[str, int]:
        dispatcher, inbound = self._node.dispatcher, self._node.inbound
        queued = sum(self._node.local.load(engine).queued for engine in self._node.engines.engines())
        tunnels = self._node.member.mesh.tunnels
        return {
            "running": dispatcher.running,
            "for_peers": inbound.running,
            "queued": queued,
            "queued_elsewhere": dispatcher.journal.waiting(),
            "answered": dispatcher.answered,
            "failed": dispatcher.failed,
            # Sealed: ending at this node, and passing through it, where nothing of what they carry can be counted.
            "tunnels": len(tunnels.links),
            "tunnels_relayed": len(tunnels.relay),
        }

    def _gauges(self) -> None:
        node = self._node
        metrics = node.metrics
        metrics.gauge("meshnode_requests_running", "Requests of this node's clients.", lambda: node.dispatcher.running)
        metrics.gauge("meshnode_jobs_running", "Jobs of other nodes.", lambda: node.inbound.running)
        metrics.gauge("meshnode_links", "Links that are up.", lambda: len(node.member.view().links))
        metrics.families(lambda: meters.read(node.member.mesh))
        metrics.gauge(
            "meshnode_nodes", "Nodes that can be reached, this one included.", lambda: len(self._view().adverts)
        )


def _hardware(found: Memory) -> dict[str, Any]:
    hardware = found.hardware
    gpus = [{"name": hardware.gpu, "count": hardware.gpus, "memory_bytes": hardware.vram_bytes,
             "free_bytes": found.free_vram_bytes}] if hardware.gpus else []  # fmt: skip
    return {"gpus": gpus, "memory_bytes": hardware.memory_bytes, "free_bytes": found.free_memory_bytes}
