"""Streams that peers open on this node's links: the mesh's own go to their door, everything else is a job.

Neighbours may ask everything; the other end of a tunnel, jobs and evidence only. Not for what is said at a door.
Counterpart: whoever opens the stream (gossiper, notices, renewal, dial_me, tunnels; dispatch.remote for jobs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshnode.errors import LinkError, ProtocolViolation
from meshnode.mesh import vouching
from meshnode.mesh.exchange import refuse
from meshnode.mesh.work import Door
from meshnode.model.ids import NodeId
from meshnode.net import Link, LinkStream
from meshnode.observe import log

logger = log.get("mesh")

OWN_PATHS = "/meshnode/"
"""Streams under it are the mesh's own; everything else is a job."""


class Reception:
    """`doors` by path; `serve` gets the jobs; `breached(peer, why)` hears of who broke the rules."""

    def __init__(self, doors: Mapping[str, Door], serve: Door, breached: Callable[[NodeId, str], None]) -> None:
        self._doors = doors
        self._serve = serve
        self._breached = breached

    async def neighbour(self, link: Link, stream: LinkStream) -> None:
        """Take one stream of a link."""
        path = (await stream.head()).get(":path", "")
        door = self._doors.get(path)
        if door is None and path.startswith(OWN_PATHS):
            await refuse(stream, "this node knows no such question: is it another version of meshnode?")
        elif door is None:
            await self._serve(link, stream)
        else:
            try:
                await door(link, stream)
            except ProtocolViolation as error:
                self._breached(link.peer, str(error))
            except LinkError as error:
                logger.debug("a neighbour's stream ended", peer=link.peer.short, path=path, reason=str(error))

    async def sealed(self, link: Link, stream: LinkStream) -> None:
        """Take one stream of a tunnel, whose other end is no neighbour."""
        path = (await stream.head()).get(":path", "")
        if path == vouching.PATH:
            await self.neighbour(link, stream)
        elif path.startswith(OWN_PATHS):
            await refuse(stream, "a tunnel is for jobs")
        else:
            await self._serve(link, stream)
