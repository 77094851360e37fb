"""One membership as this node lives it: all that is made for it, and replaced as a whole when the node joins another.

Papers, handshakes, the mesh, the address book, and what watches the LAN. Not for changing from one to the next
(member.py). Counterpart: member.py, which makes one and runs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec
import trio

from meshnode.config import Config
from meshnode.errors import AlreadyLinked, CertificateRefused, HandshakeFailed, LinkRefused
from meshnode.identity import NodeKey, TrustMode
from meshnode.keep.home import Home, Membership
from meshnode.mesh import dial_back
from meshnode.mesh.address_book import AddressBook
from meshnode.mesh.dial_back import DialBack, Way
from meshnode.mesh.discover import Discovery
from meshnode.mesh.doorway import Doorway
from meshnode.mesh.inviter import Inviter
from meshnode.mesh.join import PATH as JOIN_PATH
from meshnode.mesh.join import Joined
from meshnode.mesh.mesh import Mesh, Standing
from meshnode.mesh.papers import Papers
from meshnode.mesh.pipes import Pipes
from meshnode.mesh.warden import Warden
from meshnode.mesh.work import Work
from meshnode.model.ids import NodeId
from meshnode.net import Authenticated, Link, LinkStream, dial
from meshnode.observe import log

logger = log.get("mesh")

FIRST_LINK_S = 5.0
"""How long a join waits for the new mesh to answer, so that it can say who is there."""

_SILENT = (
    "not a word came back: who listens there is stopping or stands still, or is another program; or a node that does "
    "not know this one, of another mesh, or of this one, rotated more than a day ago while this node was away (then "
    "this node needs a new invite)"
)
"""All that silence tells. Strangers get it by design, and it proves nothing: whoever is killed is as silent."""


@dataclass(frozen=True, slots=True)
class Means:
    """What this node has in whatever mesh it is. `disk` is held by whoever writes what belongs to a membership;
    `addresses()` are those that others may dial now."""

    home: Home
    key: NodeKey
    config: Config
    pipes: Pipes
    work: Work
    rng: Random
    disk: trio.Lock
    addresses: Callable[[], tuple[str, ...]]


class Life:
    """Making one writes nothing, so that a full disk leaves no half of it."""

    def __init__(self, means: Means, membership: Membership, incarnation: int) -> None:
        home, config = means.home, means.config
        self._means = means
        self.papers = papers = Papers(home, means.key, config, membership, means.disk)
        self.inviter = Inviter(home, papers, means.addresses)
        self.doorway = door = Doorway(papers, self.inviter.book)
        way = Way(door.initiator, door.check, means.pipes.connect)
        self.dial_back = DialBack(lambda: self.mesh.view(), means.addresses, way)
        self.book = AddressBook(home, membership.mesh.id, means.disk)
        standing = Standing(papers, door, self._connect, incarnation, self.book.known(), home.keep_incarnation)
        doors = {dial_back.PATH: self.dial_back.serve}
        self.mesh = Mesh(standing, config.mesh, config.gossip, means.work, means.rng, doors)
        self.warden = Warden(papers, self.mesh)
        self._over = trio.Event()

    async def run(
        self,
        moved: Callable[[tuple[str, ...]], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Live it, until it is over; `moved` hears of new addresses of this machine."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.mesh.run)
            task_status.started()
            if self._means.pipes.discovers:
                await nursery.start(self._discovery(moved).run)
            nursery.start_soon(self.book.run, self.mesh.peers.reached, lambda: self.mesh.changed)
            await self._over.wait()
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Write nothing more of it."""
        self.papers.close()
        self.book.close()

    def end(self) -> None:
        """`run` returns. Links that were accepted do not end with it: they go here."""
        for peer in list(self.mesh.peers.links):
            self.mesh.peers.drop(peer, "this node has left the mesh")
        self._over.set()

    async def renewed(self, joined: Joined) -> None:
        """The same mesh: its links and streams go on."""
        papers, brought = self.papers, joined.membership
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

    async def first_names(self) -> list[str]:
        """Who is there, once somebody has answered or FIRST_LINK_S have passed."""
        mesh = self.mesh
        with trio.move_on_after(FIRST_LINK_S):
            while len(mesh.view().adverts) < 2:
                await mesh.changed.wait()
        view = mesh.view()
        return sorted(view.name(node) for node in view.adverts if node != view.me)

    async def welcome_joiner(self, found: Authenticated) -> None:
        """Carry the link of somebody who came with an invite: one question, one answer."""

        async def answer(link: Link, stream: LinkStream) -> None:
            if (await stream.head()).get(":path") == JOIN_PATH:
                await self.inviter.welcome(link, stream)
            else:
                stream.reset()

        section = self._means.config.mesh
        with trio.move_on_after(section.handshake_timeout_s * 2):
            await Link(found, answer, section).run()

    async def _connect(self, where: tuple[str, ...], expected: NodeId | None) -> Authenticated:
        """Dial with the present network secret, and where nobody says a word to that, with those before it."""
        if self.papers.expelled is not None:
            raise HandshakeFailed(f"this node dials nobody: {self.papers.expelled}")
        door, section, connect = self.doorway, self._means.config.mesh, self._means.pipes.connect
        check = self.mesh.peers.unless_linked(door.check) if expected is None else door.check
        for attempt in door.initiators():
            try:
                return await dial(where, attempt, check, section, expect=expected, connect=connect)
            except HandshakeFailed as error:
                # Whoever has spoken knows the secret, whatever is silent at other addresses of the same dial.
                if isinstance(error, AlreadyLinked | LinkRefused) or not attempt.unanswered:
                    raise
                silence = error
        raise HandshakeFailed(f"{silence}; {_SILENT}") from silence

    def _discovery(self, moved: Callable[[tuple[str, ...]], None]) -> Discovery:
        """What watches interfaces and the LAN."""
        listening, mesh = self._means.pipes.listening, self.mesh
        if listening is not None:
            listening = dataclasses.replace(listening, told=self._means.addresses())
        return Discovery(
            self._means.config.mesh, self.papers.mesh.id, listening,
            heard=mesh.peers.heard, moved=moved, linked=lambda: bool(mesh.peers.links),
        )  # fmt: skip
