"""Jobs that arrive over links: served here when this node is the target, else passed on towards it.

A relay reads a body and chooses another server only where the origin leaves that free (rechoose.py). Refusals carry the
error's name, so that the origin can decide; after the head, an error travels in the trailers. Counterpart: remote.py of
the previous hop.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from meshnode.dialects import status
from meshnode.dialects.facts import read_facts
from meshnode.dispatch import batch, load, rechoose, remote, wire
from meshnode.dispatch.runs import Gone, Run, Runs
from meshnode.dispatch.work import Body, Work
from meshnode.errors import (
    BadRequest,
    BodyTooLarge,
    DecodeError,
    Draining,
    Forbidden,
    LinkError,
    NoPeerReachable,
    Overloaded,
    RequestError,
)
from meshnode.model.ids import NodeId
from meshnode.model.job import Label
from meshnode.observe import log
from meshnode.slots.fence import Fence

if TYPE_CHECKING:
    from meshnode.config.dispatch import DispatchSection
    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.dispatch.remote import RemoteAnswer
    from meshnode.model.answer import Answer
    from meshnode.net import Link, LinkStream
    from meshnode.routing.seen import Seen

logger = log.get("dispatch")

HELD_BYTES = 32 << 20
"""Bodies that one peer's jobs may hold here together, but for a single larger one: with what its link may hold, less
than 64 MiB (reliability.md T15)."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    """What a peer is told in place of an answer. An error would keep the frames that it passed, with their bodies, for
    as long as the peer gives no credit."""

    code: str
    message: str
    head: wire.Headers
    body: bytes

    @classmethod
    def of(cls, error: RequestError | DecodeError) -> _Refusal:
        # A frame that holds the error it raised is a cycle, which only the garbage collector would free.
        known = _as_request_error(error.with_traceback(None))
        headers, body = status.to_wire(known)
        told = [(load.HEADER, known.load)] if known.load else []
        return cls(known.code, known.message, [(":status", str(known.status)), *headers.items(), *told], body)


class Inbound:
    """Serves what peers send. One `serve` runs per stream, owned by the link and cancelled with the stream."""

    def __init__(self, around: Surroundings, seen: Seen, body_limit_bytes: int, section: DispatchSection) -> None:
        self._around = around
        self._seen = seen
        self._body_limit = body_limit_bytes
        self._section = section
        self._runs = Runs(Fence(section.seen_jobs, section.seen_s))
        self._held: Counter[NodeId] = Counter()
        self.running = 0
        self._idle = trio.Event()

    async def drained(self) -> None:
        """Wait until no peer's job runs here."""
        while self.running:
            self._idle = trio.Event()
            await self._idle.wait()

    async def serve(self, link: Link, stream: LinkStream) -> None:
        """Answer one stream. Whatever goes wrong becomes an error head or an error trailer."""
        self.running += 1
        work, outcome, refusal = Work(stream), "cancelled", None
        try:
            try:
                with work.scope:
                    outcome = await self._work(link, work)
                if work.scope.cancelled_caught:
                    raise work.why()
            except (RequestError, DecodeError) as error:
                refusal = _Refusal.of(error)
                self._end_run(work, _as_request_error(error))
            if refusal is not None:
                # Not while the error is handled: see _Refusal.
                outcome = refusal.code
                self._let_go(link.peer, work.body)
                await (_cut if work.headed else _refuse)(stream, refusal)
        except LinkError as error:
            outcome = "link_lost"
            logger.debug("the asking peer went away", peer=link.peer.short, reason=str(error))
        finally:
            self.running -= 1
            self._end_run(work)
            if work.watched is not None:
                self._around.leases.done(work.watched)
            self._let_go(link.peer, work.body)
            self._around.metrics.served(work.kind, outcome)
            if not self.running:
                self._idle.set()

    async def _work(self, link: Link, work: Work) -> str:
        """All of it; what came of it."""
        envelope = wire.read((await work.stream.head()).items())
        work.kind = self._kind(envelope)
        work.limit(envelope, self._section.first_token_s, self._section.silence_s)
        self._check(envelope, link, work.kind)
        silence_s = work.silence_s if work.kind == "serve" else inf
        work.watched = self._around.leases.serve(work.stream, work.fell_silent, silence_s)
        await self._read_body(link.peer, work.stream, work.body)
        if envelope.free and work.kind == "relay":
            envelope = self._choose(envelope, work.body.whole())
            work.kind = self._kind(envelope)
        answer = await (self._answer if work.kind == "serve" else self._pass_on)(envelope, work)
        return await self._copy(answer, work, envelope)

    def _end_run(self, work: Work, error: RequestError | None = None) -> None:
        """What ran here is over. Whoever joined it is told the error too."""
        run, work.run = work.run, None
        if run is not None:
            if error is not None:
                run.end(error)
            self._runs.end(run)

    def _let_go(self, peer: NodeId, body: Body) -> None:
        self._held[peer] -= body.size
        if not self._held[peer]:
            del self._held[peer]
        body.drop()

    def _kind(self, envelope: wire.Envelope) -> str:
        return "serve" if envelope.target == self._around.me else "relay"

    def _choose(self, envelope: wire.Envelope, body: bytes) -> wire.Envelope:
        """The job for the server that it goes to from here. A node that does not relay has no say."""
        if self._relays_not() is not None:
            return envelope
        now = trio.current_time()
        job = envelope.job(body, read_facts(envelope.route, body, {}), now)
        return dataclasses.replace(envelope, target=rechoose.target_for(self._around, job, envelope.target, now))

    def _relays_not(self) -> RequestError | None:
        if not self._around.relays:
            return NoPeerReachable("this node does not relay")
        return Draining("this node is shutting down") if self._around.local.draining else None

    def _check(self, envelope: wire.Envelope, link: Link, kind: str) -> None:
        me = self._around.me
        if envelope.path[-1] != link.peer:
            raise BadRequest("the job's path does not end with the node that sent it")
        if me in envelope.path:
            raise NoPeerReachable(f"the job has been at {me.short} before: a loop")
        self._check_roles(envelope.origin, link.peer)
        # What is served here is fenced by attempt, and may be joined: see runs.py.
        key = (envelope.origin, envelope.id, envelope.attempt)
        if kind == "relay" and not self._seen.first(key, trio.current_time()):
            raise BadRequest("this attempt of the job has been here before")

    def _check_roles(self, origin: NodeId, sender: NodeId) -> None:
        may, name = self._around.may, self._around.view().name
        if not may(origin, "client"):
            raise Forbidden(f"{name(origin)} may not ask this mesh: it lacks the role client")
        if sender != origin and not may(sender, "relay"):
            raise Forbidden(f"{name(sender)} may not pass on the jobs of others: it lacks the role relay")

    async def _answer(self, envelope: wire.Envelope, work: Work) -> Answer:
        body = work.body.whole()
        job = envelope.job(body, read_facts(envelope.route, body, {}), work.came_at)
        if work.watched is not None:
            work.watched.place = partial(self._around.local.position, job.id)
        while True:
            found = self._runs.begin(envelope, body, work.stop)
            if isinstance(found, Run):
                work.run = found
                if await self._proven(envelope, body):
                    job = dataclasses.replace(job, proven=True)
                clerk = self._around.clerk
                answer = await self._around.local.serve(job, partial(work.stream.beat, mute=True))
                return await clerk.served(answer, job) if clerk is not None else answer
            with suppress(Gone):
                return await found.begun()

    async def _proven(self, envelope: wire.Envelope, body: bytes) -> bool:
        """Whether the origin of a job that came over relays has signed for its owner."""
        claims = self._around.claims
        return claims is not None and envelope.path[-1] != envelope.origin and await claims.hold(envelope, body)

    async def _pass_on(self, envelope: wire.Envelope, work: Work) -> RemoteAnswer:
        view = self._around.view()
        target = view.name(envelope.target)
        if (refusal := self._relays_not()) is not None:
            raise refusal
        hop = self._around.router.next_hop(view, envelope.target, envelope.path, envelope.hops_left)
        link = self._around.link(hop) if hop is not None else None
        if link is None:
            raise NoPeerReachable(f"there is no path from {view.name(self._around.me)} to {target}")
        passed_s = trio.current_time() - work.came_at
        first_s = envelope.first_token_s - passed_s if envelope.first_token_s is not None else None
        envelope = dataclasses.replace(envelope, remaining_s=envelope.remaining_s - passed_s, first_token_s=first_s)
        return await remote.ask(
            link, envelope, work.body.whole(), self._around.me, target,
            leases=self._around.leases, onward=work.watched,
        )  # fmt: skip

    async def _read_body(self, peer: NodeId, stream: LinkStream, body: Body) -> None:
        """Fill `body`. What one peer's jobs hold together is bounded too: a thousand streams may not each bring the
        most."""
        most = max(HELD_BYTES, self._body_limit)
        while piece := await stream.receive_some():
            body.add(piece)
            self._held[peer] += len(piece)
            if body.size > self._body_limit:
                raise BodyTooLarge(f"request bodies may have {self._body_limit} bytes here")
            if self._held[peer] > most:
                raise Overloaded("this node holds as much of one peer's requests as it takes", retry_after_s=1.0)

    async def _copy(self, answer: Answer, work: Work, envelope: wire.Envelope) -> str:
        """The answer onto the stream; "ok", or the code of the error that cut it."""
        stream, run = work.stream, work.run
        headers = wire.passed_on(answer.headers)
        if envelope.target == self._around.me:
            headers[wire.PATH] = wire.write_path((*envelope.path, self._around.me))
        try:
            await stream.send_head([(":status", str(answer.status)), (wire.ATTEMPT, str(envelope.attempt)),
                                    *headers.items()])  # fmt: skip
            work.begin()
            if run is not None:
                run.begin(answer.status, answer.headers)
            try:
                await self._send(answer, work, envelope.label is Label.SENSITIVE)
            except RequestError as error:
                self._end_run(work, error)
                await stream.finish(_in_trailers(error.code, error.message))
                return error.code
            if run is not None:
                run.end(None, answer.trailers)
            await stream.finish([*{wire.DONE: "1", **answer.trailers}.items()])
            return "ok"
        finally:
            with trio.CancelScope(shield=True):
                await answer.aclose()

    async def _send(self, answer: Answer, work: Work, sensitive: bool) -> None:
        send, run = work.stream.send, work.run
        if sensitive:
            work.stream.pad()
        if sensitive and work.kind == "serve":

            async def say(data: bytes) -> None:
                if run is not None:
                    run.add(data)
                await send(data)

            await batch.copy(answer, say)
        elif run is not None:
            async for data in answer:
                run.add(data)
                await send(data)
        else:
            async for data in answer:
                await send(data)


async def _cut(stream: LinkStream, refusal: _Refusal) -> None:
    """An answer that has begun ends with an error."""
    try:
        await stream.finish(_in_trailers(refusal.code, refusal.message))
    except LinkError:
        return


def _in_trailers(code: str, message: str) -> wire.Headers:
    return [(wire.ERROR, code), (wire.MESSAGE, _header_text(message))]


async def _refuse(stream: LinkStream, refusal: _Refusal) -> None:
    try:
        await stream.send_head(refusal.head)
        await stream.send(refusal.body)
        await stream.finish([(wire.DONE, "1")])
    except LinkError:
        return


def _as_request_error(error: RequestError | DecodeError) -> RequestError:
    if isinstance(error, RequestError):
        return error
    return BadRequest(str(error))


def _header_text(text: str) -> str:
    """Header values are one visible line."""
    return "".join(c if 32 <= ord(c) < 127 else " " for c in text)[:512].strip()
