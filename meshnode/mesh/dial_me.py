"""Asks a peer, through peers that both reach, to dial this node: for pairs of which only the other side can dial.

The question names who asks and who is asked, and passes hop by hop; whoever is asked decides by its own rules whether
to dial (gossip.overlay), so that a made-up question costs one dial at most. Not for dialling (peers.py). Both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from meshnode.errors import DecodeError, LinkError, PeerFailed
from meshnode.gossip.rates import Bucket
from meshnode.mesh import exchange
from meshnode.model import codec
from meshnode.model.advert import RawId
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.observe import log
from meshnode.routing.tree import MOST_HOPS

logger = log.get("mesh")

PATH = "/meshnode/dial-me"

MAX_BYTES = 1024
"""Ten ids and a number."""

PER_MINUTE = 10
"""Questions taken from one peer, its own and passed on ones."""

HOP_S = 1.0
"""For each hop to come: whoever is nearer to the end gives up first, and its reason arrives."""

NextHop = Callable[[NodeId, Collection[NodeId]], NodeId | None]
"""The neighbour next on the way to a node, by none of the given ones; None where there is no way."""


class _Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="dial-me", tag_field="t"):
    """`origin` wants to be dialled by `target`; `path` has passed it on, the last one to whoever reads this."""

    origin: RawId
    target: RawId
    hops: Annotated[int, Meta(ge=0, le=MOST_HOPS - 1)]
    path: Annotated[tuple[RawId, ...], Meta(max_length=MOST_HOPS)] = ()


class DialMe:
    """`ask` is this node's question, `answer` the door for everybody's.

    `link` gives the live link to a neighbour; `asked(peer)` is told, without waiting, that a peer wants to be dialled.
    """

    def __init__(
        self,
        me: NodeId,
        link: Callable[[NodeId], Link | None],
        next_hop: NextHop,
        asked: Callable[[NodeId], None],
    ) -> None:
        self._me = me
        self._link = link
        self._next_hop = next_hop
        self._asked = asked
        self._rates: dict[NodeId, Bucket] = {}

    async def ask(self, peer: NodeId) -> None:
        """Ask `peer` to dial this node, if there is a way to it. Nothing is raised: the overlay asks again."""
        refusal = await self._pass(_Question(bytes(self._me), bytes(peer), MOST_HOPS - 1), peer)
        logger.debug("asked a peer to dial", peer=peer.short, refused=refusal)

    async def answer(self, link: Link, stream: LinkStream) -> None:
        """Take one question from a neighbour: for this node, or to be passed on."""
        try:
            refusal = await self._judge(link.peer, await self._read(link.peer, stream))
            await (exchange.refuse(stream, refusal) if refusal else exchange.answer(stream, b""))
        except (DecodeError, LinkError) as error:
            logger.debug("a question to be dialled was not taken", peer=link.peer.short, reason=str(error))
            stream.reset()

    async def _read(self, peer: NodeId, stream: LinkStream) -> _Question | str:
        """The question, or why it is not taken."""
        if not self._rate(peer).take(trio.current_time()):
            return f"more than {PER_MINUTE} such questions a minute"
        question = codec.decode(await exchange.read(stream, MAX_BYTES), _Question, limit=MAX_BYTES)
        sender = question.path[-1] if question.path else question.origin
        return question if sender == peer else "the question names another sender than the link"

    async def _judge(self, peer: NodeId, question: _Question | str) -> str | None:
        """Do what is asked; why not, in words, where it cannot be done."""
        if isinstance(question, str):
            return question
        origin, target = NodeId(question.origin), NodeId(question.target)
        if target == self._me:
            logger.debug("a peer asks to be dialled", peer=origin.short, through=peer.short)
            self._asked(origin)
            return None
        if not question.hops or self._me in (origin, *map(NodeId, question.path)):
            return f"{target.short} was not found within so many hops"
        path = (*question.path, bytes(self._me))
        return await self._pass(_Question(question.origin, question.target, question.hops - 1, path), target)

    async def _pass(self, question: _Question, target: NodeId) -> str | None:
        """Send a question on its way; the refusal it met with, None when it arrived."""
        been = {NodeId(question.origin), *map(NodeId, question.path)}
        neighbour = self._next_hop(target, been)
        link = self._link(neighbour) if neighbour is not None and neighbour not in been else None
        if link is None:
            return f"{self._me.short} knows no way to {target.short}"
        timeout_s = HOP_S * (question.hops + 1)
        try:
            await exchange.ask(link, PATH, codec.encode(question), timeout_s=timeout_s, limit=MAX_BYTES)
        except PeerFailed as error:
            return str(error)
        except (LinkError, DecodeError) as error:
            return f"{link.peer.short} did not pass it on: {error}"
        return None

    def _rate(self, peer: NodeId) -> Bucket:
        if peer not in self._rates:
            now = trio.current_time()
            # Who has asked nothing of late needs no memory: what is left is at most one for each link.
            self._rates = {who: rate for who, rate in self._rates.items() if rate.available(now) < PER_MINUTE}
            self._rates[peer] = Bucket(PER_MINUTE, 60.0 / PER_MINUTE)
        return self._rates[peer]
