"""Asks one server for an answer: at this node's own door, or at another node's over the way that is found to it.

Not for whom to ask nor for asking again (pursuit.py, chase.py). Counterparts: local.py and remote.py, the doors.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import trio

from meshnode.dialects import first_event_is_error, from_engines_event
from meshnode.dialects.facts import rewrite_model
from meshnode.dispatch import remote, ways, wire
from meshnode.errors import AnswerTimedOut, EngineDown, EngineFailed, FirstTokenTimedOut, Overloaded
from meshnode.model.ids import NodeId
from meshnode.routing import Flight

if TYPE_CHECKING:
    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.dispatch.leases import Signs
    from meshnode.dispatch.pursuit_events import Try
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job


ADVICE = "start it there, or ask again later"


class Tried(NamedTuple):
    """A server that answered. `first`: the first bytes of its body, read already. `path`: the nodes that the answer
    came by; `privacy`: what those between could read."""

    answer: Answer
    first: bytes
    path: tuple[NodeId, ...]
    privacy: str
    order: Try
    flight: Flight


async def ask(
    around: Surroundings,
    job: Job,
    sent_as: str,
    order: Try,
    flight: Flight,
    signs: Signs | None = None,
) -> Tried:
    """The answer of the server that `order` names, once its first bytes are here; other nodes know the job as
    `sent_as`. `signs` are told of one that does not answer yet. Raises RequestError."""
    try:
        return await _ask(around, job, sent_as, order, flight, signs)
    except (EngineFailed, Overloaded, FirstTokenTimedOut, AnswerTimedOut) as error:
        advice = f"; {ADVICE}" if isinstance(error, EngineDown) else ""
        raise error.at(around.view().name(order.attempt.node), advice) from error


async def _ask(
    around: Surroundings, job: Job, sent_as: str, order: Try, flight: Flight, signs: Signs | None
) -> Tried:  # fmt: skip
    attempt, asked = order.attempt, job
    if attempt.model != job.facts.model:
        facts = dataclasses.replace(job.facts, model=attempt.model)
        job = dataclasses.replace(job, body=rewrite_model(job.body, attempt.model), facts=facts)
    answer: Answer
    clerk = around.clerk
    if attempt.node == around.me:
        own = await around.local.serve(job, signs.mute if signs is not None else None)
        answer, path, privacy = own if clerk is None else await clerk.own(own, job), attempt.path, ways.DIRECT
    else:
        way = await ways.find(around, job, attempt)
        sent, now = dataclasses.replace(job, id=sent_as), trio.current_time()
        free = ways.free(asked, attempt, way)
        envelope = wire.envelope_of(sent, order.number, attempt.node, now, free=free, at_once=order.at_once)
        if way.privacy == ways.OPEN and around.claims is not None:
            envelope = dataclasses.replace(envelope, claim=await around.claims.made(envelope, job.body))
        name, told = around.view().name(attempt.node), ways.told(around, attempt, way)
        answer = await remote.ask(
            way.link, envelope, job.body, around.me, name, told,
            leases=around.leases, signs=signs,
        )  # fmt: skip
        path, privacy = ways.passed(way, answer.headers), way.privacy
        if clerk is not None:
            answer = await clerk.expected(answer, sent, path[-1])
    return Tried(answer, await first_of(answer), path, privacy, order, flight)


async def first_of(answer: Answer) -> bytes:
    """The first bytes of its body, which its maker has waited for. Raises what a stream that begins with an error
    says: that is no answer yet, and another server may have one."""
    try:
        first = await answer.__anext__()
        if b'"error"' in first and answer.status == 200 and first_event_is_error(first):
            raise from_engines_event(first)
    except StopAsyncIteration:
        return b""
    except BaseException:
        with trio.CancelScope(shield=True):
            await answer.aclose()
        raise
    return first
