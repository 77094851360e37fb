"""Nodes that have links and tunnels over them: Tunnels over few.Node, without members, gossip or jobs.

Roles, ways and who is unwelcome are said by the test. What comes out of a tunnel is served by `node.serve`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import trio

from meshnode.mesh import opening
from meshnode.mesh.splice import Ground
from meshnode.mesh.tunnels import Sealed, Tunnels
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Check, Link, LinkStream
from meshnode.noise import Initiator, Responder
from tests.mesh.few import Few, Node
from tests.net import kit
from tests.net.kit import Handler, ask, echo, read_all

MEMBER = frozenset({"client", "relay", "serve"})


class Handshakes:
    """A node's side of each; the membership that they show is its id."""

    def __init__(self, me: NodeId) -> None:
        self._me = me

    def initiator(self) -> Initiator:
        return kit.initiator(self._me)

    def responder(self) -> Responder:
        return kit.responder(self._me)

    @property
    def check(self) -> Check:
        def judge(payload: bytes, static: bytes) -> tuple[NodeId, NodeId]:
            peer, _ = kit.check(payload, static)
            return peer, peer

        return judge


class Tunnelled(Node):
    """`tunnels` is under test. `roles` are those of nodes that are not ordinary members, `going` leave, `shut` are
    unwelcome and `out` barred, with the reason; `relays_not` is why this node relays nothing."""

    def __init__(self, few: Few, name: str, settings: dict[str, Any]) -> None:
        super().__init__(few, name, True, {"full_mesh_nodes": 0, **settings})
        self.roles: dict[NodeId, frozenset[str]] = {}
        self.going: set[NodeId] = set()
        self.shut: dict[NodeId, str] = {}
        self.out: dict[NodeId, str] = {}
        self.relays_not: str | None = None
        self.serve: Handler = echo
        self.door = Handshakes(self.id)
        ground = Ground(
            self.id, lambda peer: self.peers.link(peer), self._next_hop, lambda node: self.roles.get(node, MEMBER),
            lambda: self.relays_not, self.shut.get, self.going.__contains__,
        )  # fmt: skip
        self.tunnels = Tunnels(ground, self.section, self.door, self.build_sealed, self.out.get)
        self.life = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(super().run)
            await nursery.start(self._tunnels)
            task_status.started()

    async def _tunnels(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.life:
            await self.tunnels.run(task_status=task_status)

    def build_sealed(self, found: Authenticated) -> Link:
        return Link(found, lambda link, stream: self.serve(link, stream), self.section)

    def counts(self) -> tuple[int, int]:
        """Virtual links, and tunnels of others that are carried."""
        return len(self.tunnels.links), len(self.tunnels.relay)

    async def _serve(self, link: Link, stream: LinkStream) -> None:
        if (await stream.head())[":path"] == opening.PATH:
            await self.tunnels.serve(link, stream)
        else:
            await super()._serve(link, stream)

    def _next_hop(self, target: NodeId, passed: Collection[NodeId], hops_left: int) -> NodeId | None:
        if hops_left < 1:
            return None
        hop = target if self.peers.link(target) is not None else self.ways.get(target)
        return None if hop in passed else hop


class Tunnelling(Few):
    """Nodes of one net."""

    async def node(self, name: str, **settings: Any) -> Tunnelled:
        made = Tunnelled(self, name, settings)
        await self.nursery.start(made.run)
        return made

    async def link(self, one: Tunnelled, other: Tunnelled) -> Link:
        """Links the two; the first one's link."""
        found = await one._connect((f"{other.name}:6375",), other.id)
        self.nursery.start_soon(one.peers.live, found)
        for node, peer in ((one, other), (other, one)):
            while node.peers.link(peer.id) is None:
                await node.changed.wait()
        made = one.peers.link(other.id)
        assert made is not None
        return made

    async def row(self, names: str, **settings: Any) -> list[Tunnelled]:
        """Each linked to the next; all know which way the others are."""
        nodes = [await self.node(name, **settings) for name in names]
        for near, far in pairwise(nodes):
            await self.link(near, far)
        for at, node in enumerate(nodes):
            for to, other in enumerate(nodes):
                if abs(at - to) > 1:
                    node.ways[other.id] = nodes[at + (1 if to > at else -1)].id
        return nodes


@asynccontextmanager
async def tunnelling() -> AsyncIterator[Tunnelling]:
    async with trio.open_nursery() as nursery:
        yield Tunnelling(nursery)
        nursery.cancel_scope.cancel()


async def said(life: Sealed, words: bytes) -> bytes:
    """What comes back when `words` are said over a virtual link whose other end echoes."""
    stream = await life.link.request(ask(), words)
    return await read_all(stream)
