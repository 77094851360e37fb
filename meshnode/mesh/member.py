"""This node as a member: its membership, its listener, and the Mesh that lives it, replaced when it joins another.

Founds a private mesh of one at the first start. Not for jobs (their streams go to the callable handed in) nor for the
protocol of joining (join.py) or who is kept out (warden.py). Counterpart: node.py, which owns `run`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import AlreadyLinked, CertificateRefused, HandshakeFailed, IdentityError, InviteRefused
from meshnode.identity import Invite, NodeKey, TrustMode
from meshnode.keep.home import Home, Membership
from meshnode.mesh import dial_back
from meshnode.mesh.address_book import AddressBook
from meshnode.mesh.dial_back import DialBack, DialledBack, Way
from meshnode.mesh.discover import Discovery, Listening
from meshnode.mesh.doorway import Doorway
from meshnode.mesh.founding import check, found_anew, own_membership
from meshnode.mesh.join import PATH as JOIN_PATH
from meshnode.mesh.join import Invitation, Inviter, Joined, Wish, join_with, keep_joined
from meshnode.mesh.mesh import Mesh, Standing
from meshnode.mesh.papers import Papers
from meshnode.mesh.warden import Revoked, Warden
from meshnode.mesh.work import Work
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Authenticated, Link, LinkStream, dial, socket_stream
from meshnode.net.dial import Connect
from meshnode.net.listen import Welcome, serve
from meshnode.observe import log

logger = log.get("mesh")

FIRST_LINK_S = 5.0
"""How long a join waits for the new mesh to answer, so that it can say who is there."""

FAREWELL_S = 0.2
"""How long the farewell to a mesh that is left has to leave this node's links before they close."""

_STRANGER = (
    "who answers there knows no network secret of this node: it is no node of this mesh, or the secret was rotated "
    "more than a day ago, while this node was away (then it needs a new invite)"
)


@dataclass(frozen=True, slots=True)
class Pipes:
    """How this node reaches others and is reached: real sockets, or a virtual net in tests.

    `listeners` may be empty: then this node only dials out. `reachable` are the addresses others may dial; `listening`
    is where they are bound. `discovers`: interfaces are watched and neighbours looked for, on a real network only.
    """

    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
    reachable: tuple[str, ...]
    connect: Connect = socket_stream.connect
    listening: Listening | None = None
    discovers: bool = False


class Member:
    """`run` lives the present membership until cancelled; `join` and `leave_mesh` change it while running.

    Raises ConfigError for peers and pins that are none, IdentityError and SecretFileError.
    """

    def __init__(self, home: Home, key: NodeKey, config: Config, pipes: Pipes, work: Work, rng: Random) -> None:
        check(config)
        self._home = home
        self._key = key
        self._config = config
        self._pipes = pipes
        self._work = work
        self._rng = rng
        self._disk = trio.Lock()
        self._advert: Advert | None = None
        self._rejoined = trio.Event()
        self._moving = False
        self._addresses = pipes.reachable
        self._settle(own_membership(home, key, config), home.bump_incarnation())

    @property
    def me(self) -> NodeId:
        """This node's id."""
        return self._key.id

    @property
    def membership(self) -> Membership:
        """The present one."""
        return self._papers.membership

    @property
    def mesh_id(self) -> NodeId:
        """The present mesh's id: the public key of its root."""
        return NodeId(self.membership.mesh.id)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may dial this node; none for one that only dials out."""
        return self._addresses

    @property
    def owner(self) -> str:
        """Whose machine this is, as its certificate says; where there is none, as the configuration does."""
        own = self._papers.certificate
        return own.owner if own is not None else self._config.node.owner

    @property
    def trust_mode(self) -> str:
        """Who is believed: `ca`, `pinned` or `psk-tofu`."""
        return self._papers.mode.value

    @property
    def membership_until(self) -> int | None:
        """Wall time at which the membership ends unless it is renewed; None for one that does not."""
        return self._papers.until

    def roles(self, node: NodeId) -> frozenset[str]:
        """What a node may do; nothing for one that is not known as a member."""
        return self.mesh.outlook.roles(node)

    def pinned(self, node: NodeId) -> bool:
        """Whether the node is pinned, by its id or (psk-tofu) by a name."""
        return self._papers.trust.pins.holds(node)

    def invited_by(self, node: NodeId) -> NodeId | None:
        """The member that let a node in; None where the root did, or nobody knows."""
        member = self.mesh.outlook.member(node)
        inviter = member.invited_by if member is not None else None
        return inviter if inviter != self.mesh_id else None

    def standing(self) -> dict[str, Any]:
        """What this node is in its mesh, for status pages."""
        papers = self._papers
        return {
            "trust": self.trust_mode,
            "roles": sorted(papers.roles),
            "owner": self.owner,
            "member_until": datetime.fromtimestamp(papers.until, UTC).isoformat() if papers.until is not None else None,
            "may_invite": papers.may_issue,
            "holds_root": papers.membership.root_seed is not None,
            "secret_generation": papers.mesh.generation,
            "revoked": papers.expelled,
        }

    def farewell(self) -> None:
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

    def invite(self, wish: Wish) -> Invitation:
        """A new one-line invite into the present mesh. Raises InviteRefused, CertificateRefused."""
        return self._inviter.invite(wish)

    async def revoke(self, node: NodeId, *, keep_invited: bool = False) -> Revoked:
        """Shut a node out for ever. Raises what Warden.revoke raises."""
        return await self._warden.revoke(node, keep_invited=keep_invited)

    async def rotate(self) -> int:
        """Make the network secret anew; its generation. Raises what Warden.rotate raises."""
        return await self._warden.rotate()

    async def trust_node(self, node: NodeId, name: str = "") -> bool:
        """Pin a node. Raises what Warden.trust raises."""
        return await self._warden.trust(node, name)

    async def forget(self, node: NodeId) -> bool:
        """Drop pins, bars, addresses and the advert of a node. Whether there were any."""
        changed = await self._warden.forget(node)
        await self._book.forget(node)
        return changed

    async def dial_back(self) -> list[DialledBack]:
        """What linked peers find when they dial this node."""
        return await self._dial_back.ask_all(self.mesh.peers.links.values())

    async def join(self, token: str) -> list[str]:
        """Leave a mesh of one for the invite's; or, with one of the present mesh, be renewed or change roles. Returns
        the names of members that are there.

        Raises InviteRefused, also when the present mesh is another with other members, and what join_with raises.
        """
        same = Invite.parse(token, int(time.time())).mesh == self.mesh_id
        if not same and self._company():
            raise InviteRefused(
                f"this node is in the mesh {self.membership.mesh.name!r} with {self._company()}: a node is in one mesh "
                "at a time, so leave that one first (meshnode leave), or use the invite with another home (--home)"
            )
        with self._alone():
            joined = await join_with(self._home, token, self._config, connect=self._pipes.connect)
            await (self._renewed(joined) if same else self._move(joined))
        return await self._first_names()

    async def leave_mesh(self, *, force: bool = False) -> str:
        """Leave the mesh and found a private one anew; the name of the mesh that was left.

        Raises IdentityError where this would leave a mesh without its root (unless `force`), or in psk-tofu;
        SecretFileError.
        """
        self._check_may_leave(force)
        with self._alone():
            # A disk that takes nothing is met before anything has been said.
            before, incarnation = self.membership, self._home.bump_incarnation()
            name, linked = before.mesh.name, bool(self.view().links)
            self.farewell()
            if linked:
                await trio.sleep(FAREWELL_S)
            try:
                async with self._disk:
                    self._papers.close()
                    self._book.close()
                    before = await trio.to_thread.run_sync(
                        found_anew, self._home, self._key, self._config, abandon_on_cancel=False
                    )
            finally:
                # Whatever the disk did: the farewell has been said, and this life is over.
                self._begin(before, incarnation)
        return name

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
                    if self._pipes.discovers:
                        await life.start(self._discovery().run)
                    life.start_soon(self._book.run, self.mesh.peers.reached, lambda: self.mesh.changed)
                    await self._rejoined.wait()
                    life.cancel_scope.cancel()

    def _discovery(self) -> Discovery:
        """What watches interfaces and the LAN for the present membership."""
        listening, mesh = self._pipes.listening, self.mesh
        if listening is not None:
            listening = dataclasses.replace(listening, told=self._addresses)
        return Discovery(
            self._config.mesh, self.membership.mesh.id, listening,
            heard=mesh.peers.heard, moved=self._moved, linked=lambda: bool(mesh.peers.links),
        )  # fmt: skip

    def _moved(self, addresses: tuple[str, ...]) -> None:
        """This machine is to be reached elsewhere from now on."""
        logger.info("this node's addresses changed", now=addresses, before=self._addresses)
        self._addresses = addresses
        if self._advert is not None:
            self.describe(msgspec.structs.replace(self._advert, addresses=addresses))
        self.mesh.peers.redial("this machine's addresses changed")

    def _settle(self, membership: Membership, incarnation: int) -> None:
        """Build what a membership needs. Nothing is written, so that a full disk leaves no half of it."""
        config = self._config
        self._papers = papers = Papers(self._home, self._key, config, membership, self._disk)
        self._inviter = Inviter(self._home, papers, lambda: self.addresses)
        self._doorway = door = Doorway(papers, self._inviter.book)
        way = Way(door.initiator, door.check, self._pipes.connect)
        self._dial_back = DialBack(self.view, lambda: self.addresses, way)
        self._book = AddressBook(self._home, membership.mesh.id, self._disk)
        connect = partial(self._connect, papers, door)
        standing = Standing(papers, door, connect, incarnation, self._book.known(), self._home.keep_incarnation)
        doors = {dial_back.PATH: self._dial_back.serve}
        self.mesh = Mesh(standing, config.mesh, config.gossip, self._work, self._rng, doors)
        self._warden = Warden(papers, self.mesh)

    async def _connect(
        self, papers: Papers, door: Doorway, where: tuple[str, ...], expected: NodeId | None
    ) -> Authenticated:
        """Dial with the present network secret, and where nobody says a word to that, with those before it."""
        if papers.expelled is not None:
            raise HandshakeFailed(f"this node dials nobody: {papers.expelled}")
        check = self.mesh.peers.unless_linked(door.check) if expected is None else door.check
        for attempt in door.initiators():
            try:
                return await dial(
                    where, attempt, check, self._config.mesh, expect=expected, connect=self._pipes.connect
                )
            except HandshakeFailed as error:
                if isinstance(error, AlreadyLinked) or not attempt.unanswered:
                    raise
                silence = error
        raise HandshakeFailed(f"{silence}; {_STRANGER}") from silence

    async def _welcome_joiner(self, found: Authenticated) -> None:
        """Carry the link of somebody who came with an invite: one question, one answer."""

        async def answer(link: Link, stream: LinkStream) -> None:
            if (await stream.head()).get(":path") == JOIN_PATH:
                await self._inviter.welcome(link, stream)
            else:
                stream.reset()

        with trio.move_on_after(self._config.mesh.handshake_timeout_s * 2):
            await Link(found, answer, self._config.mesh).run()

    async def _renewed(self, joined: Joined) -> None:
        """The same mesh: its links and streams go on."""
        papers, brought = self._papers, joined.membership
        newer = brought.mesh.generation > papers.mesh.generation
        papers.adopt(brought if newer else msgspec.structs.replace(brought, mesh=papers.mesh))
        if papers.mode is TrustMode.PINNED:
            papers.pin(joined.signer)
        for notice in joined.notices:
            try:
                self.mesh.post(notice)
            except CertificateRefused as error:
                logger.warning("a notice of the inviting node is not believed", reason=str(error))
        self.mesh.refresh()
        await papers.keep()

    async def _move(self, joined: Joined) -> None:
        incarnation = self._home.bump_incarnation()
        async with self._disk:
            await trio.to_thread.run_sync(keep_joined, self._home, joined, self._config, abandon_on_cancel=False)
            self._papers.close()
            self._book.close()
        self._begin(joined.membership, incarnation)

    def _begin(self, membership: Membership, incarnation: int) -> None:
        """Live another membership from now on. Links that were accepted are not of the life that ends: they go here."""
        for peer in list(self.mesh.peers.links):
            self.mesh.peers.drop(peer, "this node has left the mesh")
        self._settle(membership, incarnation)
        self._rejoined.set()

    def _check_may_leave(self, force: bool) -> None:
        if self._papers.mode is TrustMode.PSK_TOFU:
            raise IdentityError(
                "in psk-tofu the mesh is the file mesh.secret: stop this node and move that file away to leave it"
            )
        if self.membership.root_seed is not None and self._company() and not force:
            raise IdentityError(
                f"this node holds the root of the mesh {self.membership.mesh.name!r}, which has {self._company()}: "
                "without it nobody there could be made a member that invites, nor be shut out who does. Hand the root "
                "on first (meshnode invite --root), or leave with --force"
            )

    def _company(self) -> str:
        """The other members, in words; "" for none. With the root, which nobody gets back, those that are off too."""
        off = set(self._book.known()) if self.membership.root_seed is not None else set()
        count = len((set(self.view().adverts) | off - self._papers.notices.revoked()) - {self.me})
        return f"{count} other {'node' if count == 1 else 'nodes'}" if count else ""

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One change of membership at a time."""
        if self._moving:
            raise InviteRefused("this node is joining or leaving a mesh already: wait for that to end")
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    async def _first_names(self) -> list[str]:
        mesh = self.mesh
        with trio.move_on_after(FIRST_LINK_S):
            while len(mesh.view().adverts) < 2:
                await mesh.changed.wait()
        view = mesh.view()
        return sorted(view.name(node) for node in view.adverts if node != view.me)
