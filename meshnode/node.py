"""The composition root: builds the rooms, nests their nurseries, orders the shutdown. Nothing else does.

`async with Node(config) as node:` runs a whole node in the caller's trio program. Not for any decision of a room.
Counterpart: cli.up, which runs one for a terminal.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any

import trio

from meshnode import chat as asking
from meshnode import front
from meshnode.access import Ring
from meshnode.chat import ChatStream, Messages, Reply
from meshnode.config import Config, load
from meshnode.description import Description
from meshnode.dispatch.claims import Claims
from meshnode.dispatch.clerk import Clerk
from meshnode.dispatch.coalesce import Coalescer
from meshnode.dispatch.dispatcher import Dispatcher, Surroundings
from meshnode.dispatch.inbound import Inbound
from meshnode.dispatch.leases import Leases
from meshnode.dispatch.local import Local
from meshnode.dispatch.outside import Outside
from meshnode.dispatch.share import Share, Standing
from meshnode.dispatch.watch import Watch
from meshnode.engine import Engines, memory
from meshnode.engine.cloud import providers
from meshnode.errors import EngineUnavailable
from meshnode.gossip.facts import Facts
from meshnode.identity import NodeKey
from meshnode.keep.api_keys import load_keys, save_keys
from meshnode.keep.home import Home, default_home
from meshnode.keep.pause import load_pause
from meshnode.keep.receipts import Receipts
from meshnode.keep.spending import load_spent, save_spent
from meshnode.mesh.addresses import join, own_name
from meshnode.mesh.member import Member
from meshnode.mesh.members import owner_of
from meshnode.mesh.pipes import Pipes, open_pipes
from meshnode.mesh.work import Work
from meshnode.model.ids import NodeId
from meshnode.observe import log
from meshnode.observe.metrics import Metrics
from meshnode.presence import Presence
from meshnode.proofs import Proofs
from meshnode.routing import Router, Seen
from meshnode.routing.fallback import Fallback

logger = log.get("node")

TOMBSTONE_S = 0.2
"""How long the farewell has to leave this node's links before they close."""


class Node(AbstractAsyncContextManager["Node"]):
    """One peer of the mesh.

    `home` holds its keys and state (default: MESHNODE_HOME, else the platform's data directory); `config` defaults to
    what the home, the environment and the defaults say; `pipes` replaces real sockets between nodes in tests. Entering
    raises StartError, ConfigError or IdentityError; after it the API and the mesh port listen, and engines and links
    come up behind them. Leaving drains within `config.node.grace_s`; cancelling instead ends everything at once.
    """

    def __init__(self, config: Config | None = None, *, home: Path | None = None, pipes: Pipes | None = None) -> None:
        self.home = Home(home if home is not None else default_home(os.environ))
        self.config = config if config is not None else load(self.home.config, os.environ)
        self.name = own_name(self.config.node.name)
        self.api = ""
        self.mesh_address: str | None = None
        self.asgi: Any = None
        self._pipes = pipes
        self._grace_s = self.config.node.grace_s
        self._running: AbstractAsyncContextManager[None] | None = None

    @property
    def id(self) -> NodeId:
        """This node's id. Known after entering."""
        return self.member.me

    async def __aenter__(self) -> Node:
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        running, self._running = self._running, None
        assert running is not None
        if not isinstance(error, Exception):
            return await running.__aexit__(kind, error, trace)
        # The caller's own error leaves as itself, not wrapped once per nursery, and without waiting for a drain.
        self._grace_s = 0.0
        await running.__aexit__(None, None, None)
        return None

    async def chat(self, model: str, messages: Messages, *, timeout_s: float = 600.0, **options: Any) -> Reply:
        """Ask once and wait for the whole answer. `options` are OpenAI's fields, such as `max_tokens`.

        Raises RequestError.
        """
        body = asking.body(model, messages, stream=False, options=options)
        return await asking.whole(await self.dispatcher.dispatch(asking.job(self.id, body, timeout_s)))

    def stream(self, model: str, messages: Messages, *, timeout_s: float = 86_400.0, **options: Any) -> ChatStream:
        """Ask and read the answer as it comes: `async with node.stream(…) as chunks: async for text in chunks: …`."""
        body = asking.body(model, messages, stream=True, options=options)
        return ChatStream(lambda: self.dispatcher.dispatch(asking.job(self.id, body, timeout_s)))

    def models(self) -> list[str]:
        """Names that may be asked for now, the whole mesh's."""
        return self.presence.model_names()

    def peers(self) -> list[dict[str, Any]]:
        """Other nodes, as `/mesh/status` lists them."""
        return self.presence.peers()

    def status(self) -> dict[str, Any]:
        """This node, its engines, models and peers, as `/mesh/status` says it."""
        return self.presence.status()

    async def engines_settled(self) -> None:
        """Wait until something can be asked here, or it is clear that nothing will."""
        try:
            await self.engines.first_ready()
        except EngineUnavailable:
            return

    def drain(self) -> None:
        """Announce that this node is going and refuse new work; what runs goes on."""
        self.local.draining = True
        self.description.tell()

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        """Three nested nurseries: engines (last to die), mesh, front (first to die)."""
        with self.home:
            ring = await trio.to_thread.run_sync(load_keys, self.home.path)
            api = await front.open_listeners(self.config.front, keyed=len(ring) > 0)
            try:
                await self._build(api, ring)
                async with trio.open_nursery() as engines:
                    await engines.start(self.engines.run)
                    async with trio.open_nursery() as mesh:
                        if self.config.trust.receipts:
                            await mesh.start(self.receipts.run)
                        await mesh.start(self.member.run)
                        await mesh.start(self._watch.run)
                        await mesh.start(self.sharing.run)
                        await mesh.start(self._leases.run)
                        await mesh.start(self.local.loads.run)
                        await mesh.start(self.local.ears.run)
                        await mesh.start(self.proofs.run)
                        if self.outside is not None:
                            await mesh.start(self.outside.run)
                        mesh.start_soon(self.description.run)
                        mesh.start_soon(self.local.share.run)
                        stop, rest = trio.Event(), trio.Event()
                        async with trio.open_nursery() as doors:
                            await doors.start(partial(front.serve, self.asgi, api, self.config.front,
                                                      stop=stop, rest=rest,
                                                      grace_s=self.config.node.grace_s))  # fmt: skip
                            self.home.write_run(self._whereabouts())
                            yield
                            self.drain()
                            stop.set()
                            doors.cancel_scope.deadline = trio.current_time() + self._grace_s
                            await self.inbound.drained()
                            await self.member.mesh.tunnels.relay.drained()
                            rest.set()
                        self.member.farewell()
                        await trio.sleep(TOMBSTONE_S)
                        mesh.cancel_scope.cancel()
                    engines.cancel_scope.cancel()
            finally:
                self.home.clear_run()
                for listener in api:
                    listener.socket.close()
                if self._pipes is not None:
                    self._pipes.close()

    async def _build(self, api: list[trio.SocketListener], ring: Ring) -> None:
        key = self.home.node_key()
        await self._build_engines_and_mesh(key)
        await self._build_dispatch(key)
        self._build_front(api, ring)
        self.description.tell()

    async def _build_engines_and_mesh(self, key: NodeKey) -> None:
        config = self.config
        self.metrics = Metrics()
        self.router = Router(config.dispatch, config.routing)
        self.description = Description(self, await trio.to_thread.run_sync(memory))
        self.engines = Engines(config.engine, self.home.models, self.description.tell)
        self.proofs = Proofs(
            key, config.trust, self.home.path, self.engines.files, lambda: self.member.mesh, self.description.tell
        )
        if self._pipes is None:
            self._pipes = await open_pipes(config.mesh)
        pipes = self._pipes
        self.mesh_address = pipes.address
        self.member = Member(self.home, key, config, pipes, self._work(), SystemRandom())

    async def _build_dispatch(self, key: NodeKey) -> None:
        config = self.config
        self.receipts = Receipts(self.home.path, config.trust, key.id, key.sign)
        self._leases = Leases()
        standing = Standing(
            key.id, lambda: self.member.owner, lambda node: owner_of(self.member.mesh.outlook.member(node))
        )
        share = await self._share(standing)
        self.local = Local(config.engine, self.engines.find, self.engines.engines, share)
        self._watch = Watch()
        self.outside = await self._cloud()
        around = self._surroundings(key, standing)
        self.dispatcher = Dispatcher(around, config.dispatch, self._watch, SystemRandom())
        self.sharing = Coalescer(self.dispatcher, config.dispatch)
        seen = Seen(config.dispatch.seen_jobs, config.dispatch.seen_s)
        self.inbound = Inbound(around, seen, config.front.body_limit_bytes, config.dispatch)

    def _surroundings(self, key: NodeKey, standing: Standing) -> Surroundings:
        """What dispatch sees of the other rooms."""
        config = self.config
        return Surroundings(
            me=key.id,
            relays=config.mesh.relay,
            view=self.member.view,
            link=self.member.link,
            router=self.router,
            local=self.local,
            metrics=self.metrics,
            may=lambda node, role: role in self.member.roles(node),
            tunnels=lambda: self.member.mesh.tunnels,
            relay_class=config.mesh.relay_class,
            asked=lambda node: self.member.mesh.peers.requested(node),
            leases=self._leases,
            connect_s=config.dispatch.connect_s,
            clerk=Clerk(key.id, key.sign, self.description.offer, self.receipts) if config.trust.receipts else None,
            outside=self.outside,
            claims=Claims(key.id, key.sign, standing.owner, standing.vouched),
        )

    def _build_front(self, api: list[trio.SocketListener], ring: Ring) -> None:
        config = self.config
        host, port = api[0].socket.getsockname()[:2]
        self.api = f"http://{join(host, port)}"
        self.presence = Presence(self)
        self.keys = front.Keyring(
            ring, self.home.control_secret(), save=partial(save_keys, self.home.path),
            required=config.front.require_key or front.beyond_loopback(api),
        )  # fmt: skip
        self.asgi = front.make_asgi(self.presence.doors(self.keys), config.front)

    async def _share(self, standing: Standing) -> Share:
        """Raises SecretFileError where a pause of an earlier run cannot be read."""
        paused = await trio.to_thread.run_sync(load_pause, self.home.path / "paused")
        if paused:
            logger.info("this machine is paused since an earlier run", do="meshnode resume lifts it")
        share = Share(self.config.sharing, standing, paused=paused)
        share.changed = self._share_changed
        return share

    async def _cloud(self) -> Outside | None:
        """Commercial APIs to ask last. Raises ConfigError where one is configured that cannot be used."""
        section, path = self.config.cloud, self.home.path / "cloud-spent"
        if not section.providers:
            return None
        accounts = providers(section, os.environ)
        fallback = Fallback(section, await trio.to_thread.run_sync(load_spent, path))
        return Outside(fallback, accounts, partial(save_spent, path), self._watch, self.config.dispatch)

    def _work(self) -> Work:
        def hear(node: NodeId, facts: Facts) -> None:
            self.router.heard(self.member.view(), node, facts, trio.current_time())

        return Work(self._serve, lambda: self.local.facts(), hear, self.proofs.serve)

    def _share_changed(self) -> None:
        self.local.review()
        self.description.tell()

    async def _serve(self, link: Any, stream: Any) -> None:
        await self.inbound.serve(link, stream)

    def _whereabouts(self) -> Mapping[str, Any]:
        return {"pid": os.getpid(), "api": self.api, "mesh": self.mesh_address, "node": self.id.text}
