"""A few nodes that only have links: Peers over a virtual net, without members, gossip or jobs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from meshnode.config.mesh import MeshSection
from meshnode.gossip.overlay import Overlay
from meshnode.mesh import dial_me
from meshnode.mesh.dial_me import DialMe
from meshnode.mesh.peers import Peers
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, Welcome, dial, serve
from meshnode.testing.virtual import VirtualNet
from tests.net.kit import check, echo, initiator, responder


def node_id(name: str) -> NodeId:
    return NodeId(name.encode().ljust(32, b"."))


class Node:
    """One node: `peers` is under test; `linked` counts links taken, `barred` are peers it does not want."""

    def __init__(self, few: Few, name: str, listens: bool, settings: Mapping[str, Any]) -> None:
        self.few = few
        self.name, self.id, self.listens = name, node_id(name), listens
        self.section = MeshSection(**settings)
        self.pipes = few.net.pipes(name, listens=listens)
        self.barred: dict[NodeId, str] = {}
        self.dialled: list[tuple[str, ...]] = []
        self.links: list[Link] = []
        self.ways: dict[NodeId, NodeId] = {}
        self.dial_me = DialMe(
            self.id,
            lambda peer: self.peers.link(peer),
            lambda target, _: self.ways.get(target),
            lambda peer: self.peers.asked(peer),
        )
        overlay = Overlay(self.id, name.encode()[:8], self.section, random.Random(name))
        self.peers = Peers(
            overlay, self._connect, self._build, self.carry, self._changed, self.barred.get, self.dial_me.ask
        )
        self.changed = trio.Event()
        self.carry_with: Callable[[Link], Awaitable[None]] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.peers.run)
            if self.listens:
                welcome = Welcome(lambda: responder(self.id), check, lambda found: self.peers.live(found))
                await nursery.start(serve, self.pipes.listeners, welcome, self.section)
            task_status.started()

    def know(self, *others: Node) -> None:
        """What gossip would bring: adverts of these, and of this node."""
        self.peers.known({other.id: other.advert() for other in (self, *others)})

    def advert(self) -> Advert:
        where = (f"{self.name}:6375",) if self.listens else ()
        return Advert(bytes(self.id), b"m" * 32, 1, 1, 180, name=self.name, addresses=where)

    async def until(self, *others: Node) -> None:
        """Until exactly these are linked."""
        while set(self.peers.links) != {other.id for other in others}:
            await self.changed.wait()

    async def carry(self, link: Link) -> None:
        if self.carry_with is not None:
            await self.carry_with(link)
        await trio.sleep_forever()

    async def _connect(self, where: tuple[str, ...], expected: NodeId | None) -> Authenticated:
        self.dialled.append(where)
        pipe = self.pipes.connect
        judge = self.peers.unless_linked(check) if expected is None else check
        return await dial(where, lambda: initiator(self.id), judge, self.section, expect=expected, connect=pipe)

    def _build(self, found: Authenticated) -> Link:
        link = Link(found, self._serve, self.section)
        self.links.append(link)
        return link

    async def _serve(self, link: Link, stream: LinkStream) -> None:
        head = await stream.head()
        await (self.dial_me.answer(link, stream) if head[":path"] == dial_me.PATH else echo(link, stream))

    def _changed(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class Few:
    """Nodes of one net. `add` starts one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.net = VirtualNet()
        self.nursery = nursery

    async def add(self, name: str, *, listens: bool = True, **settings: Any) -> Node:
        node = Node(self, name, listens, settings)
        await self.nursery.start(node.run)
        return node


@asynccontextmanager
async def few() -> AsyncIterator[Few]:
    async with trio.open_nursery() as nursery:
        yield Few(nursery)
        nursery.cancel_scope.cancel()
