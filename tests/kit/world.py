"""Whole nodes without HTTP, on a virtual net and clock: the member, routing, local and remote doors, and an engine
whose answers a test writes down."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import trio

from meshnode.config import load
from meshnode.dialects import read_facts
from meshnode.dispatch.claims import Claims
from meshnode.dispatch.coalesce import Coalescer
from meshnode.dispatch.delivered import Delivered
from meshnode.dispatch.dispatcher import Dispatcher, Surroundings
from meshnode.dispatch.inbound import Inbound
from meshnode.dispatch.leases import Leases
from meshnode.dispatch.local import Local
from meshnode.dispatch.share import Share, Standing
from meshnode.dispatch.watch import Watch
from meshnode.gossip.facts import Facts
from meshnode.identity import Issuer, Mesh, MeshRoot, NodeKey, Role
from meshnode.keep.home import Home, Membership
from meshnode.mesh.member import Member
from meshnode.mesh.members import owner_of
from meshnode.mesh.work import Work
from meshnode.model.advert import Advert, ModelOffer
from meshnode.model.ids import NodeId
from meshnode.model.job import NO_WISHES, Job, Label, Privacy, Wishes
from meshnode.model.names import same_model
from meshnode.model.takes import Takes
from meshnode.observe.metrics import Metrics
from meshnode.routing import Router, Seen
from meshnode.testing.virtual import VirtualNet

ROUTE = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

Script = list[bytes | float | Exception]
"""Chunks to send, seconds to wait, or an error to raise, in order."""


@dataclass
class ScriptedEngine:
    """Answers every request with the same script; counts who is served and who was cut."""

    model: str
    script: Script = field(default_factory=lambda: [EVENT, LAST])
    name: str = "scripted"
    slots: int = 4
    served: int = 0
    running: int = 0
    cut: int = 0
    context: int = 4096
    content: str = "text/event-stream"
    refuse: Exception | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def offers(self) -> tuple[ModelOffer, ...]:
        return (ModelOffer(self.model, context=self.context, slots=self.slots),)

    @property
    def resident(self) -> frozenset[str] | None:
        return None

    async def serve(self, route: str, headers: Mapping[str, str], body: bytes) -> ScriptedAnswer:
        self.served += 1
        if self.refuse is not None:
            raise self.refuse
        self.running += 1
        self._tell()
        return ScriptedAnswer(self, list(self.script))

    def left(self, whole: bool) -> None:
        self.running -= 1
        self.cut += not whole
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def until_busy(self) -> None:
        while not self.running:
            await self.changed.wait()

    async def until(self, running: int) -> None:
        while self.running != running:
            await self.changed.wait()


class ScriptedAnswer:
    def __init__(self, engine: ScriptedEngine, script: Script) -> None:
        self.status = 200
        self.headers = {"content-type": engine.content}
        self.trailers: dict[str, str] = {}
        self._engine: ScriptedEngine | None = engine
        self._script = script

    def __aiter__(self) -> ScriptedAnswer:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while self._script:
            match self._script.pop(0):
                case bytes() as chunk:
                    return chunk
                case Exception() as error:
                    raise error
                case seconds:
                    await trio.sleep(seconds)
        self._leave(whole=True)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._leave(whole=False)

    def _leave(self, *, whole: bool) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.left(whole)


@dataclass
class WorldNode:
    name: str
    home: Home
    member: Member
    dispatcher: Dispatcher
    inbound: Inbound
    local: Local
    router: Router
    around: Surroundings
    sharing: Coalescer
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def id(self) -> NodeId:
        return self.member.me

    def job(
        self, model: str, *, stream: bool = True, timeout_s: float = 60.0, text: str = "hi",
        label: Label = Label.INTERNAL, privacy: Privacy | None = None,
        wishes: Wishes = NO_WISHES, more: bytes = b"",
    ) -> Job:  # fmt: skip
        body = b'{"model":"%s",%s"stream":%s,"messages":[{"role":"user","content":"%s"}]}' % (
            model.encode(),
            more,
            b"true" if stream else b"false",
            text.encode(),
        )
        deadline = trio.current_time() + timeout_s
        facts = read_facts(ROUTE, body, {})
        return Job(
            secrets.token_hex(8), ROUTE, body, facts, self.id, deadline, label=label, privacy=privacy, wishes=wishes
        )

    async def ask(self, model: str, **options: Any) -> Delivered:
        return await self.dispatcher.dispatch(self.job(model, **options))

    async def ask_whole(self, model: str, **options: Any) -> tuple[Delivered, bytes]:
        answer = await self.ask(model, **options)
        return answer, b"".join([chunk async for chunk in answer])

    def reachable(self) -> set[str]:
        view = self.member.view()
        tree = self.router.known.paths.tree(view)
        return {view.name(node) for node in view.adverts if node != self.id and tree.cheapest(node)}

    async def until_reachable(self, names: set[str], model_of: str | None = None) -> None:
        while self.reachable() != names or (model_of is not None and model_of not in self._with_models()):
            await self.member.mesh.changed.wait()

    async def until_linked(self, *others: WorldNode) -> None:
        """Until exactly these are linked."""
        while set(self.member.view().links) != {other.id for other in others}:
            await self.member.mesh.changed.wait()

    def _with_models(self) -> set[str]:
        view = self.member.view()
        return {view.name(node) for node, advert in view.adverts.items() if advert.models}


@dataclass(frozen=True)
class Papers:
    """What makes a node of a World a member before its first start. `by`: the name of the node that invited it, the
    root itself by default; `root`: it holds the root's seed; `none`: it founds a mesh of its own."""

    roles: Collection[Role] | None = None
    by: str = ""
    root: bool = False
    none: bool = False
    owner: str = ""


class Wall:
    """Wall time that goes with the virtual clock, and that a test sets ahead for everybody, without waiting."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._start = time.time()
        self._seen = 0.0
        self.ahead_s = 0.0
        patch.setattr("time.time", self)

    def __call__(self) -> float:
        # Outside trio, as at the end of a test, the clock stands still.
        with contextlib.suppress(RuntimeError):
            self._seen = trio.current_time()
        return self._start + self._seen + self.ahead_s

    def skip(self, seconds: float) -> None:
        """Everybody's clock is so much later."""
        self.ahead_s += seconds


class World:
    """Nodes of one mesh. `add` starts one; leaving `running` ends them all."""

    def __init__(self, folder: Path, nursery: trio.Nursery, seed: int = 1) -> None:
        self.net = VirtualNet()
        self.nodes: dict[str, WorldNode] = {}
        self.mesh_secret = ""
        self.root = MeshRoot.generate()
        self.mesh = Mesh(self.root.mesh, "world", secrets.token_bytes(32))
        self.folder = folder
        self._nursery = nursery
        self._seed = seed

    async def add(
        self, name: str, *, peers: tuple[str, ...] = (), engine: ScriptedEngine | None = None, listens: bool = True,
        settings: Mapping[str, Any] | None = None, papers: Papers | None = None,
    ) -> WorldNode:  # fmt: skip
        self._seed += 1
        flags = {"node": {"name": name}, **(settings or {})}
        flags["mesh"] = {"peers": tuple(f"{peer}:6375" for peer in peers), **flags.get("mesh", {})}
        config = load(flags=flags)
        home = Home(self.folder / name, time.time)
        key = home.node_key()
        self._prepare(home, key, config.mesh.trust, papers if papers is not None else Papers())
        engines = [engine] if engine is not None else []
        router = Router(config.dispatch, config.routing)
        serving: list[Inbound] = []

        def hear(node: NodeId, facts: Facts) -> None:
            router.heard(member.view(), node, facts, trio.current_time())

        member = Member(
            home, key, config, self.net.pipes(name, listens=listens),
            Work(lambda link, stream: serving[0].serve(link, stream), lambda: local.facts(), hear), Random(self._seed),
        )  # fmt: skip
        standing = Standing(member.me, lambda: member.owner, lambda node: owner_of(member.mesh.outlook.member(node)))
        share = Share(config.sharing, standing)
        local = Local(
            config.engine,
            lambda model, needs, _: next(
                (e for e in engines if any(same_model(model, o.name) for o in e.offers)), None
            ),
            lambda: engines,
            share,
        )
        share.changed = lambda: self._share_changed(name)
        around = Surroundings(
            member.me, config.mesh.relay, member.view, member.link, router, local, Metrics(),
            lambda node, role: role in member.roles(node), lambda: member.mesh.tunnels, config.mesh.relay_class,
            lambda node: member.mesh.peers.requested(node), Leases(), config.dispatch.connect_s,
            claims=Claims(member.me, key.sign, standing.owner, standing.vouched),
        )  # fmt: skip
        watch = Watch()
        serving.append(Inbound(around, Seen(1000, 900.0), 1 << 20, config.dispatch))
        dispatcher = Dispatcher(around, config.dispatch, watch, Random(self._seed))
        sharing = Coalescer(dispatcher, config.dispatch)
        node = WorldNode(name, home, member, dispatcher, serving[0], local, router, around, sharing)
        self.nodes[name] = node
        await self._nursery.start(self._live, node, watch)
        member.describe(Advert(
                bytes(key.id), member.mesh_id, 0, 0, 1, name=name, addresses=member.addresses,
                models=engine.offers if engine is not None else (),
        ))  # fmt: skip
        self._share_changed(name)
        return node

    def _share_changed(self, name: str) -> None:
        node = self.nodes[name]
        node.local.review()
        told = node.member.view().adverts[node.id]
        takes = node.local.share.takes
        node.member.describe(
            msgspec.structs.replace(told, owner_only=takes is Takes.OWN, paused=takes is Takes.NOBODYS)
        )

    async def kill(self, name: str) -> None:
        """The node's process is gone at once: its connections close, nothing is said."""
        self.net.unplug(name)
        self.nodes.pop(name).scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    def _prepare(self, home: Home, key: NodeKey, trust: str, papers: Papers) -> None:
        if trust == "psk-tofu":
            if home.tofu_secret() is None:
                self.mesh_secret = self.mesh_secret or home.make_tofu_secret()
                if home.tofu_secret() is None:
                    home.save_tofu_secret(self.mesh_secret)
        elif not papers.none and home.membership(key) is None:
            chain = self._issuer(papers.by).issue(
                key.id, int(time.time()), self._seed, roles=papers.roles, owner=papers.owner
            )
            home.save_membership(Membership(self.mesh, chain, self.root.seed if papers.root else None))

    def _issuer(self, by: str) -> Issuer:
        if not by:
            return Issuer(self.root, self.mesh.id)
        node = self.nodes[by]
        return node.member.membership.issuer(node.home.node_key())

    async def _live(self, node: WorldNode, watch: Watch, *, task_status: trio.TaskStatus[None]) -> None:
        with node.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(node.member.run)
                await nursery.start(watch.run)
                await nursery.start(node.sharing.run)
                await nursery.start(node.around.leases.run)
                await nursery.start(node.local.loads.run)
                await nursery.start(node.local.ears.run)
                task_status.started()


@asynccontextmanager
async def world(folder: Path, seed: int = 1) -> AsyncIterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        # While a thread writes, everybody else waits and the virtual clock would run away.
        patch.setattr("trio.to_thread.run_sync", _at_once)
        async with trio.open_nursery() as nursery:
            yield World(folder, nursery, seed)
            nursery.cancel_scope.cancel()


async def _at_once(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return work(*args)


__all__ = ["EVENT", "LAST", "NodeKey", "Papers", "ScriptedEngine", "Wall", "World", "WorldNode", "world"]
