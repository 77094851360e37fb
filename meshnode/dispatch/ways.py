"""How a job gets to a server that was chosen: over a link, sealed in a tunnel through relays, or open from hop to hop.

Sealed is what goes wherever a relay is on the way, unless the node or the request says otherwise; never the other way
round when a tunnel cannot be had. Not for which server (routing) nor for tunnels themselves (mesh). protocol.md §6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from meshnode.dispatch import wire
from meshnode.errors import ConnectTimedOut, DecodeError, LinkError, PeerFailed
from meshnode.model.ids import NodeId
from meshnode.model.job import Job, Label, Privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.gossip.facts import Facts
    from meshnode.net import Link
    from meshnode.routing import Attempt

DIRECT, SEALED, OPEN = "direct", Privacy.SEALED.value, Privacy.OPEN.value


@dataclass(frozen=True, slots=True)
class Way:
    """The link that a job goes out on, the nodes it passes from this one to its server, and who of them can read it:
    DIRECT (nobody is between), SEALED, OPEN."""

    link: Link
    path: tuple[NodeId, ...]
    privacy: str


async def find(around: Surroundings, job: Job, attempt: Attempt) -> Way:
    """The way to the server of `attempt`, which is another node. Raises PeerFailed when there is none,
    ConnectTimedOut when it takes too long to come about."""
    around.asked(attempt.node)
    relayed = len(attempt.path) > 2
    name = around.view().name(attempt.node)
    if relayed and seals(job, around.relay_class):
        if (direct := around.link(attempt.node)) is not None:
            return Way(direct, (around.me, attempt.node), DIRECT)
        try:
            with trio.CancelScope(deadline=trio.current_time() + around.connect_s) as patience:
                tunnel = await around.tunnels().link(attempt.node, attempt.path[1], job.hops_left)
        except LinkError as error:
            raise PeerFailed(f"{name} cannot be reached through a sealed tunnel: {error}") from error
        if patience.cancelled_caught:
            raise ConnectTimedOut(
                f"{name} could not be reached through a sealed tunnel within {around.connect_s:g} s "
                "(dispatch.connect_s); a relay on the way is slow or stands still"
            )
        return Way(tunnel.link, tunnel.way, SEALED)
    link = around.link(attempt.path[1])
    if link is None:
        raise PeerFailed(f"{name} cannot be reached: the link is gone")
    return Way(link, attempt.path, OPEN if relayed else DIRECT)


def cut(around: Surroundings, job: Job, attempt: Attempt) -> bool:
    """Whether an attempt failed because its tunnel broke or did not come about, whatever its server is like."""
    return len(attempt.path) > 2 and seals(job, around.relay_class) and around.tunnels().find(attempt.node) is None


def seals(job: Job, usual: str) -> bool:
    """Whether relays must not read the job. What is sensitive is never open, whoever says so."""
    return job.label is Label.SENSITIVE or (job.privacy or Privacy(usual)) is Privacy.SEALED


def free(job: Job, attempt: Attempt, way: Way) -> bool:
    """Whether relays may choose another server: the request is public or says itself that it is open, and asks
    nothing of its server that they do not know of."""
    return way.privacy == OPEN and not attempt.bound and (job.label is Label.PUBLIC or job.privacy is Privacy.OPEN)


def told(around: Surroundings, attempt: Attempt, way: Way) -> Callable[[Facts], None]:
    """What is done with the load that a server tells: routing hears of it. Where relays choose it may be another's."""

    def hear(facts: Facts) -> None:
        if way.privacy != OPEN:
            around.router.reported(attempt.node, attempt.model, facts, trio.current_time())

    return hear


def passed(way: Way, headers: Mapping[str, str]) -> tuple[NodeId, ...]:
    """The nodes that an answer came by, its server last: where relays choose, only the server knows. Its word must at
    least begin as the job did."""
    if way.privacy != OPEN or wire.PATH not in headers:
        return way.path
    try:
        told = wire.read_path(headers[wire.PATH])
    except DecodeError:
        return way.path
    return told if told[:2] == way.path[:2] else way.path
