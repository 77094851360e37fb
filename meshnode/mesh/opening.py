"""What opens a tunnel: a request's head that the origin writes, each relay judges and rewrites, and the target answers.

The same discipline as for jobs between nodes: hops left, the path so far, an id that is met once. What the tunnel
carries is the ordinary link's business. Not for carrying (splice.py) nor for keeping tunnels (tunnels.py). protocol.md
§6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.errors import DecodeError, HandshakeFailed
from meshnode.mesh import exchange
from meshnode.model.digits import read_digits
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.routing.tree import MOST_HOPS

PATH = "/meshnode/tunnel"

MAX_WORDS_BYTES = 2048
"""A refusal says in a line who refuses and why; each hop adds nothing."""

_ID_CHARACTERS = 64
_PATH = "meshnode-path"


@dataclass(frozen=True, slots=True)
class Opening:
    """A tunnel that is being opened. `path`: the nodes that have passed it on, origin first; `hops_left`: links that it
    may still take."""

    id: str
    origin: NodeId
    target: NodeId
    hops_left: int
    path: tuple[NodeId, ...]

    def onward(self, me: NodeId) -> Opening:
        """As this node hands it to the next: one hop less, this node in the path."""
        return dataclasses.replace(self, hops_left=self.hops_left - 1, path=(*self.path, me))

    def headers(self) -> list[tuple[str, str]]:
        """The head of the request."""
        return [
            *exchange.head_of(PATH),
            ("meshnode-tunnel", self.id),
            ("meshnode-origin", self.origin.text),
            ("meshnode-target", self.target.text),
            ("meshnode-hops", str(self.hops_left)),
            (_PATH, _text(self.path)),
        ]


def read(headers: Mapping[str, str]) -> Opening:
    """A neighbour's headers. Raises DecodeError for whatever `headers` would not have written."""
    try:
        opening = Opening(
            id=headers["meshnode-tunnel"],
            origin=NodeId.parse(headers["meshnode-origin"]),
            target=NodeId.parse(headers["meshnode-target"]),
            hops_left=read_digits(headers["meshnode-hops"]),
            path=_nodes(headers),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"a tunnel's headers do not make sense: {error}") from error
    bounded = (
        0 < len(opening.id) <= _ID_CHARACTERS
        and 0 <= opening.hops_left < MOST_HOPS
        and len(opening.path) + opening.hops_left <= MOST_HOPS
        and opening.path[0] == opening.origin
    )
    if not bounded:
        raise DecodeError("a tunnel's headers are out of bounds")
    return opening


async def ask(link: Link, opening: Opening) -> tuple[LinkStream, tuple[NodeId, ...]]:
    """Open the tunnel over `link`; the stream, and the whole way as the target saw it.

    Raises HandshakeFailed with the words of whoever refused, LinkError when the way breaks. The stream is reset unless
    it is returned.
    """
    stream = await link.request(opening.headers(), end=False)
    try:
        head = await stream.head()
        if head.get(":status") != "200":
            words = (await exchange.read(stream, MAX_WORDS_BYTES)).decode(errors="replace")
            said = "".join(c for c in words if c.isprintable())
            raise HandshakeFailed(said or f"{link.peer.short} refused a tunnel without a word")
        return stream, _seen_way(head, opening)
    except (DecodeError, KeyError) as error:
        stream.reset()
        raise HandshakeFailed(f"{link.peer.short} answered a tunnel with nonsense: {error}") from error
    except BaseException:
        stream.reset()
        raise


async def accept(stream: LinkStream, way: tuple[NodeId, ...]) -> None:
    """The answer of the target, and of each relay after it: the tunnel is open, over `way`."""
    await stream.send_head([(":status", "200"), (_PATH, _text(way))])


def _seen_way(head: Mapping[str, str], opening: Opening) -> tuple[NodeId, ...]:
    """Nobody on the way can prove it; it must at least continue what is known."""
    way = _nodes(head)
    known = len(opening.path)
    if way[:known] != opening.path or way[-1] != opening.target or len(way) > MOST_HOPS + 1:
        raise DecodeError("another way than the one that was asked for")
    return way


def _nodes(headers: Mapping[str, str]) -> tuple[NodeId, ...]:
    return tuple(NodeId.parse(part) for part in headers[_PATH].split(",", MOST_HOPS + 1))


def _text(path: tuple[NodeId, ...]) -> str:
    return ",".join(node.text for node in path)
