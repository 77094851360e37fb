"""Carries notices (revocations, rotations of the network secret) over every link, and makes them count here at once.

On each link all that is known goes out first, revocations before rotations, then each new one: whoever a revocation
bars is dropped before the rotation that follows it is passed on. Not for believing them (identity.notices) nor for
keeping them (papers.py). Counterpart: the same class at the peer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import trio

from meshnode.errors import CertificateRefused, DecodeError, LinkError, ProtocolViolation
from meshnode.identity import Notice, Revocation, Rotation
from meshnode.identity.statements import MAX_NOTICE_BYTES
from meshnode.mesh.exchange import head_of
from meshnode.mesh.papers import Papers
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")

PATH = "/meshnode/notices"

LAST_WORDS_S = 0.2
"""A barred neighbour is told why, if it listens, and dropped after so long: links are to end within 1 s (protocol.md
§1)."""

REFUSALS = 1100
PAUSE_S = 0.1
"""An honest peer may hold as many notices as that, which this node does not believe or knows; one that sends more is
heard slowly, since each costs two signature checks."""

MOST_TOLD = 4 * REFUSALS
"""Digests remembered of one link: when there are more, what is known is told once more."""

_LENGTH_BYTES = 2


@dataclass(slots=True)
class _Conversation:
    """What both ends of a link have told each other, by digest, and how much of the peer's was no news; `scope` ends
    this end's telling; `pause` is taken in turns, by however many streams the peer speaks."""

    told: set[bytes] = field(default_factory=set)
    idle: int = 0
    pause: trio.Lock = field(default_factory=trio.Lock)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Board:
    """`carry` and `receive` run for each link; `post` is for this node's own notices.

    `applied(statement)` is called, without waiting, for each one that is new; `links()` are the live ones; `drop(peer,
    reason)` ends a link.
    """

    def __init__(
        self,
        papers: Papers,
        applied: Callable[[Revocation | Rotation], None],
        links: Callable[[], Collection[Link]],
        drop: Callable[[NodeId, str], bool],
    ) -> None:
        self._papers = papers
        self._applied = applied
        self._links = links
        self._drop = drop
        self._conversations: WeakKeyDictionary[Link, _Conversation] = WeakKeyDictionary()
        self._news = trio.Event()

    def post(self, notice: Notice) -> bool:
        """Make a notice count here and tell every neighbour. Whether it was news. Raises CertificateRefused when it is
        not to be believed."""
        was_out = self._papers.expelled is not None
        statement = self._papers.take(notice)
        if statement is None:
            return False
        _say(statement)
        if not was_out:
            say_if_out(self._papers)
        self.review()
        self._applied(statement)
        self._wake()
        return True

    def tell_again(self, link: Link) -> None:
        """Tell a peer everything once more: its clock, or ours, may have been wrong when it refused something."""
        conversation = self._conversation(link)
        conversation.told.clear()
        conversation.idle = 0
        self._wake()

    def review(self) -> list[NodeId]:
        """End the links of those who are believed no more. Returns whose."""
        barred = []
        for link in list(self._links()):
            reason = self._papers.barred(link.membership)
            if reason is None:
                continue
            barred.append(link.peer)
            conversation = self._conversations.get(link)
            if conversation is None:
                self._drop(link.peer, reason)
            else:
                conversation.scope.deadline = min(conversation.scope.deadline, trio.current_time() + LAST_WORDS_S)
        return barred

    async def carry(self, link: Link) -> None:
        """Tell the peer everything, then what is new, until the link ends or the peer is barred."""
        conversation = self._conversation(link)
        if self._papers.barred(link.membership) is not None:
            # Barred between its handshake and now.
            conversation.scope.deadline = trio.current_time() + LAST_WORDS_S
        try:
            with conversation.scope:
                await self._tell(link, conversation)
        except LinkError as error:
            logger.debug("notices to a neighbour ended", peer=link.peer.short, reason=str(error))
        reason = self._papers.barred(link.membership)
        if reason is not None:
            self._drop(link.peer, reason)

    async def receive(self, link: Link, stream: LinkStream) -> None:
        """Read the peer's notices until its stream ends. Raises LinkError."""
        conversation = self._conversation(link)
        buffer = bytearray()
        while data := await stream.receive_some():
            buffer += data
            while (frame := _take(buffer)) is not None:
                if not self._take_in(link, conversation, frame):
                    conversation.idle += 1
                    if conversation.idle > REFUSALS:
                        async with conversation.pause:
                            await trio.sleep(PAUSE_S)

    def _take_in(self, link: Link, conversation: _Conversation, frame: bytes) -> bool:
        """Whether the frame was news. Raises ProtocolViolation."""
        try:
            news = self.post(Notice.unpack(frame))
        except DecodeError as error:
            raise ProtocolViolation(f"a notice that cannot be read: {error}") from error
        except CertificateRefused as error:
            logger.debug("a notice is not believed", peer=link.peer.short, reason=str(error))
            return False
        if len(conversation.told) >= MOST_TOLD:
            conversation.told.clear()
        conversation.told.add(_digest(frame))
        return news

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    async def _tell(self, link: Link, conversation: _Conversation) -> None:
        stream = await link.request(head_of(PATH), end=False)
        while True:
            news = self._news
            for notice in self._papers.notices.all():
                data = notice.pack()
                digest = _digest(data)
                if digest in conversation.told:
                    continue
                if isinstance(notice.statement, Rotation) and self._papers.barred(link.membership) is not None:
                    break
                conversation.told.add(digest)
                await stream.send(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
            await news.wait()

    def _conversation(self, link: Link) -> _Conversation:
        """Either direction may begin."""
        return self._conversations.setdefault(link, _Conversation())


def _take(buffer: bytearray) -> bytes | None:
    """The next whole frame, out of `buffer`. Raises ProtocolViolation for one that is too long."""
    size = int.from_bytes(buffer[:_LENGTH_BYTES], "big")
    if size > MAX_NOTICE_BYTES:
        raise ProtocolViolation(f"a notice of {size} bytes")
    end = _LENGTH_BYTES + size
    if len(buffer) < end:
        return None
    frame = bytes(buffer[_LENGTH_BYTES:end])
    del buffer[:end]
    return frame


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def say_if_out(papers: Papers) -> None:
    """Whoever runs a node that was revoked must find that in its log."""
    if papers.expelled is not None:
        logger.error(
            "this node is out of its mesh: no member talks to it, and it dials nobody. Its own engines go on serving "
            "its own clients; `meshnode leave` begins anew",
            reason=papers.expelled,
        )


def _say(statement: Revocation | Rotation) -> None:
    if isinstance(statement, Rotation):
        logger.info("the network secret has been rotated", generation=statement.generation)
    else:
        logger.warning("a node has been revoked", node=NodeId(statement.node).short, kept=len(statement.kept))
