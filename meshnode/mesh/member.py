"""This node as a member: its listener, its present membership (life.py), and the change from one to the next.

Founds a private mesh of one at the first start. Not for jobs (their streams go to the callable handed in) nor for the
protocol of joining (join.py) or who is kept out (warden.py). Counterpart: node.py, which owns `run`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import IdentityError, InviteRefused
from meshnode.identity import Invite, NodeKey, TrustMode
from meshnode.keep.home import Home, Membership
from meshnode.mesh.dial_back import DialledBack
from meshnode.mesh.founding import check, found_anew, own_membership
from meshnode.mesh.inviter import Invitation, Wish
from meshnode.mesh.join import Joined, join_with, keep_joined
from meshnode.mesh.life import Life, Means
from meshnode.mesh.mesh import Mesh
from meshnode.mesh.papers import Papers
from meshnode.mesh.pipes import Pipes
from meshnode.mesh.warden import Revoked
from meshnode.mesh.work import Work
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from meshnode.model.view import View
from meshnode.net import Link
from meshnode.net.listen import Welcome, serve
from meshnode.observe import log

logger = log.get("mesh")

FAREWELL_S = 0.2
"""How long the farewell to a mesh that is left has to leave this node's links before they close."""


class Member:
    """`run` lives the present membership until cancelled; `join` and `leave_mesh` change it while running.

    Raises ConfigError for peers and pins that are none, IdentityError and SecretFileError.
    """

    def __init__(self, home: Home, key: NodeKey, config: Config, pipes: Pipes, work: Work, rng: Random) -> None:
        check(config)
        self._key = key
        self._addresses = pipes.reachable
        self._means = Means(home, key, config, pipes, work, rng, trio.Lock(), lambda: self._addresses)
        self._advert: Advert | None = None
        self._moving = False
        self._life = Life(self._means, own_membership(home, key, config), home.bump_incarnation())

    @property
    def mesh(self) -> Mesh:
        """The present membership's mesh."""
        return self._life.mesh

    @property
    def _papers(self) -> Papers:
        return self._life.papers

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
        return own.owner if own is not None else self._means.config.node.owner

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
        return self._life.inviter.invite(wish)

    async def revoke(self, node: NodeId, *, keep_invited: bool = False) -> Revoked:
        """Shut a node out for ever. Raises what Warden.revoke raises."""
        return await self._life.warden.revoke(node, keep_invited=keep_invited)

    async def rotate(self) -> int:
        """Make the network secret anew; its generation. Raises what Warden.rotate raises."""
        return await self._life.warden.rotate()

    async def trust_node(self, node: NodeId, name: str = "") -> bool:
        """Pin a node. Raises what Warden.trust raises."""
        return await self._life.warden.trust(node, name)

    async def forget(self, node: NodeId) -> bool:
        """Drop pins, bars, addresses and the advert of a node. Whether there were any."""
        changed = await self._life.warden.forget(node)
        await self._life.book.forget(node)
        return changed

    async def dial_back(self) -> list[DialledBack]:
        """What linked peers find when they dial this node."""
        return await self._life.dial_back.ask_all(self.mesh.peers.links.values())

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
            joined = await join_with(self._means.home, token, self._means.config, connect=self._means.pipes.connect)
            await (self._life.renewed(joined) if same else self._move(joined))
        return await self._life.first_names()

    async def leave_mesh(self, *, force: bool = False) -> str:
        """Leave the mesh and found a private one anew; the name of the mesh that was left.

        Raises IdentityError where this would leave a mesh without its root (unless `force`), or in psk-tofu;
        SecretFileError.
        """
        self._check_may_leave(force)
        with self._alone():
            # A disk that takes nothing is met before anything has been said.
            before, incarnation = self.membership, self._means.home.bump_incarnation()
            name, linked = before.mesh.name, bool(self.view().links)
            self.farewell()
            if linked:
                await trio.sleep(FAREWELL_S)
            try:
                async with self._means.disk:
                    self._life.close()
                    before = await trio.to_thread.run_sync(
                        found_anew, self._means.home, self._key, self._means.config, abandon_on_cancel=False
                    )
            finally:
                # Whatever the disk did: the farewell has been said, and this life is over.
                self._begin(before, incarnation)
        return name

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live the membership, and the next one after a join. Returns only by cancellation, which ends every link."""
        async with trio.open_nursery() as nursery:
            if self._means.pipes.listeners:
                welcome = Welcome(
                    responder=lambda: self._life.doorway.responder(),
                    check=lambda payload, static: self._life.doorway.check(payload, static),
                    on_member=lambda found: self.mesh.peers.live(found),
                    check_join=lambda payload, static: self._life.doorway.check_join(payload, static),
                    on_join=lambda found: self._life.welcome_joiner(found),
                )
                await nursery.start(partial(serve, self._means.pipes.listeners, welcome, self._means.config.mesh))
            task_status.started()
            while True:
                life = self._life
                async with trio.open_nursery() as living:
                    await living.start(life.run, self._moved)
                    if self._advert is not None:
                        life.mesh.describe(self._advert)

    def _moved(self, addresses: tuple[str, ...]) -> None:
        """This machine is to be reached elsewhere from now on."""
        logger.info("this node's addresses changed", now=addresses, before=self._addresses)
        self._addresses = addresses
        if self._advert is not None:
            self.describe(msgspec.structs.replace(self._advert, addresses=addresses))
        self.mesh.peers.redial("this machine's addresses changed")

    async def _move(self, joined: Joined) -> None:
        means = self._means
        incarnation = means.home.bump_incarnation()
        async with means.disk:
            await trio.to_thread.run_sync(keep_joined, means.home, joined, means.config, abandon_on_cancel=False)
            self._life.close()
        self._begin(joined.membership, incarnation)

    def _begin(self, membership: Membership, incarnation: int) -> None:
        """Live another membership from now on."""
        before, self._life = self._life, Life(self._means, membership, incarnation)
        before.end()

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
        off = set(self._life.book.known()) if self.membership.root_seed is not None else set()
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
