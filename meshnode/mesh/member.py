"""This node as a member: its membership, its listener, and the Mesh that lives it, replaced when it joins another.

Founds a private mesh of one at the first start. Not for jobs (their streams go to the callable handed in) nor for the
protocol of joining (join.py). Counterpart: node.py, which owns `run`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import ConfigError, HandshakeFailed, InviteRefused, SecretFileError
from meshnode.gossip.overlay import is_loopback
from meshnode.identity import MEMBERSHIP_LIFETIME_S, NodeKey
from meshnode.identity.certificates import read_membership
from meshnode.keep.addresses import load_addresses, save_addresses
from meshnode.keep.home import Home, Membership
from meshnode.mesh.addresses import own_name
from meshnode.mesh.doorway import Doorway
from meshnode.mesh.join import PATH as JOIN_PATH
from meshnode.mesh.join import Inviter, join_with
from meshnode.mesh.mesh import Mesh, Standing
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Authenticated, Link, LinkStream, dial, socket_stream
from meshnode.net.dial import Connect, split_address
from meshnode.net.listen import Welcome, serve
from meshnode.observe import log

logger = log.get("mesh")

Serve = Callable[[Link, LinkStream], Awaitable[None]]

REMEMBER_S = 30.0
"""Between looks at whether peers' addresses are worth writing down."""

FIRST_LINK_S = 5.0
"""How long a join waits for the new mesh to answer, so that it can say who is there."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """How this node reaches others and is reached: real sockets, or a virtual net in tests.

    `listeners` may be empty: then this node only dials out. `reachable` are the addresses others may dial.
    """

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    reachable: tuple[str, ...]
    connect: Connect = socket_stream.connect


class Member:
    """`run` lives the present membership until cancelled; `join` changes it while running.

    Raises ConfigError for peers that are no addresses, and SecretFileError.
    """

    def __init__(self, home: Home, key: NodeKey, config: Config, pipes: Pipes, serve: Serve, rng: Random) -> None:
        _check_peers(config.mesh.peers)
        self._home = home
        self._key = key
        self._config = config
        self._pipes = pipes
        self._serve = serve
        self._rng = rng
        self._advert: Advert | None = None
        self._rejoined = trio.Event()
        self._joining = False
        self.membership = self._own_membership()
        self._settle()

    @property
    def me(self) -> NodeId:
        """This node's id."""
        return self._key.id

    @property
    def mesh_id(self) -> NodeId:
        """The present mesh's id: the public key of its root."""
        return NodeId(self.membership.mesh.id)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may dial this node; none for one that only dials out."""
        return self._pipes.reachable

    def leave(self) -> None:
        """Tell everybody that this node is going."""
        self.mesh.leave()

    def view(self) -> View:
        """What is known of the mesh now."""
        return self.mesh.view()

    def link(self, peer: NodeId) -> Link | None:
        """The live link to a neighbour."""
        return self.mesh.link(peer)

    def describe(self, advert: Advert) -> None:
        """Say what is new of this node, in this mesh and in one joined later."""
        self._advert = advert
        self.mesh.describe(advert)

    def invite(self, lifetime_s: int) -> str:
        """A new one-line invite into the present mesh. Raises InviteRefused, CertificateRefused."""
        return self._inviter.invite(lifetime_s)

    async def join(self, token: str) -> list[str]:
        """Leave a mesh of one for the invite's; returns the names of members that are there.

        Raises InviteRefused, also when the present mesh has other members, and what join_with raises.
        """
        others = len(self.view().adverts) - 1
        if others > 0:
            raise InviteRefused(
                f"this node is in the mesh {self.membership.mesh.name!r} with {others} other "
                f"{'node' if others == 1 else 'nodes'}: "
                "a node is in one mesh at a time, so use the invite with another home (--home)"
            )
        if self._joining:
            raise InviteRefused("this node is joining a mesh already: wait for that to end")
        node = self._config.node
        self._joining = True
        try:
            joined = await join_with(self._home, token, self._config.mesh, name=own_name(node.name), owner=node.owner)
        finally:
            self._joining = False
        save_addresses(self._home.addresses, joined.membership.mesh.id, joined.addresses)
        self.membership = joined.membership
        self._settle()
        self._rejoined.set()
        return await self._first_names()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live the membership, and the next one after a join. Returns only by cancellation, which ends every link."""
        async with trio.open_nursery() as nursery:
            if self._pipes.listeners:
                welcome = Welcome(
                    responder=lambda: self._doorway.responder(),
                    check=lambda payload, static: self._doorway.check(payload, static),
                    on_member=lambda found: self.mesh.peers.live(found),
                    check_join=lambda payload, static: self._doorway.check_join(payload, static),
                    on_join=self._welcome_joiner,
                )
                await nursery.start(partial(serve, self._pipes.listeners, welcome, self._config.mesh))
            task_status.started()
            while True:
                self._rejoined = trio.Event()
                async with trio.open_nursery() as life:
                    await life.start(self.mesh.run)
                    if self._advert is not None:
                        self.mesh.describe(self._advert)
                    life.start_soon(self._remember)
                    await self._rejoined.wait()
                    life.cancel_scope.cancel()

    def _settle(self) -> None:
        """Build what the present membership needs."""
        mesh = self.membership.mesh
        reachable = self._pipes.reachable
        self._inviter = Inviter(self._home, self._key, self.membership, lambda: reachable)
        self._doorway = Doorway(self._key, mesh, self.membership.chain, self._inviter.book, self._inviter.keep)
        known = load_addresses(self._home.addresses, mesh.id)
        wanted = tuple(dict.fromkeys((*self._config.mesh.peers, *known)))
        section = dataclasses.replace(self._config.mesh, peers=wanted)
        standing = Standing(self._key, mesh.id, self._home.bump_incarnation())
        self.mesh = Mesh(standing, section, self._config.gossip, self._connect, self._serve, self._rng)

    async def _connect(self, where: tuple[str, ...], expected: NodeId | None) -> Authenticated:
        door = self._doorway
        return await dial(
            where, door.initiator, door.check, self._config.mesh, expect=expected, connect=self._pipes.connect
        )

    async def _welcome_joiner(self, found: Authenticated) -> None:
        """Carry the link of somebody who came with an invite: one question, one answer."""

        async def answer(link: Link, stream: LinkStream) -> None:
            if (await stream.head()).get(":path") == JOIN_PATH:
                await self._inviter.welcome(link, stream)
            else:
                stream.reset()

        with trio.move_on_after(self._config.mesh.handshake_timeout_s * 2):
            await Link(found, answer, self._config.mesh).run()

    async def _first_names(self) -> list[str]:
        mesh = self.mesh
        with trio.move_on_after(FIRST_LINK_S):
            while len(mesh.view().adverts) < 2:
                await mesh.changed.wait()
        view = mesh.view()
        return sorted(view.name(node) for node in view.adverts if node != view.me)

    async def _remember(self) -> None:
        """Write down where linked peers say they are, when that changes."""
        kept: tuple[str, ...] = ()
        while True:
            view = self.view()
            linked = [view.adverts[peer] for peer in sorted(view.links) if peer in view.adverts]
            found = tuple(
                address
                for advert in linked
                for address in advert.addresses
                if not is_loopback(address) or advert.host == self.mesh.host
            )
            if found and found != kept:
                kept = found
                await self._keep_addresses(found)
            with trio.move_on_after(REMEMBER_S):
                await self.mesh.changed.wait()
            await trio.sleep(1.0)

    async def _keep_addresses(self, found: tuple[str, ...]) -> None:
        """They are hints: a node whose disk is full goes on without them."""
        mesh = self.membership.mesh.id
        try:
            await trio.to_thread.run_sync(save_addresses, self._home.addresses, mesh, found, abandon_on_cancel=False)
        except SecretFileError as error:
            logger.warning("peers' addresses cannot be kept", reason=str(error))

    def _own_membership(self) -> Membership:
        """The mesh this node is in; a private one of its own at the first start."""
        found = self._home.membership(self._key)
        node = self._config.node
        if found is None:
            return self._home.found_mesh(self._key, "home", node.owner)
        certificate = read_membership(found.chain[0])
        now = int(time.time())
        if found.root_seed is not None and certificate.not_after - now < MEMBERSHIP_LIFETIME_S // 2:
            # Whoever holds the root renews itself; everybody else is renewed by those who may invite.
            chain = found.issuer(self._key).issue(self.me, now, certificate.serial + 1, owner=node.owner)
            found = msgspec.structs.replace(found, chain=chain)
            self._home.save_membership(found)
        return found


def _check_peers(peers: Sequence[str]) -> None:
    faults = []
    for address in peers:
        try:
            split_address(address)
        except HandshakeFailed as error:
            faults.append(f"mesh.peers: {error}")
    if faults:
        raise ConfigError(faults)
