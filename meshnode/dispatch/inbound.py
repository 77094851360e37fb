"""Jobs that arrive over links: served here when this node is the target, else passed on towards it.

A relay reads a body and chooses another server only where the origin leaves that free (rechoose.py). Refusals carry the
error's name, so that the origin can decide; after the head, an error travels in the trailers. Counterpart: remote.py of
the previous hop.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import trio

from meshnode.dialects import status
from meshnode.dialects.facts import read_facts
from meshnode.dispatch import batch, load, rechoose, remote, wire
from meshnode.errors import (
    BadRequest,
    BodyTooLarge,
    DeadlineExceeded,
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

if TYPE_CHECKING:
    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.dispatch.remote import RemoteAnswer
    from meshnode.model.answer import Answer
    from meshnode.net import Link, LinkStream
    from meshnode.routing.seen import Seen

logger = log.get("dispatch")

HELD_BYTES = 32 << 20
"""Bodies that one peer's jobs may hold here together, but for a single larger one: with what its link may hold, less
than 64 MiB (reliability.md T15)."""


class _Body:
    """A request's body as it comes: pieces, joined once. A buffer that grows would leave holes of every size."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)

    def whole(self) -> bytes:
        """All of it; the pieces are given up."""
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def drop(self) -> None:
        """Nobody needs it."""
        self._pieces = []
        self.size = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    """What a peer is told in place of an answer. An error would keep the frames that it passed, with their bodies, for
    as long as the peer gives no credit."""

    code: str
    head: wire.Headers
    body: bytes

    @classmethod
    def of(cls, error: RequestError | DecodeError | trio.TooSlowError) -> _Refusal:
        # A frame that holds the error it raised is a cycle, which only the garbage collector would free.
        known = _as_request_error(error.with_traceback(None))
        headers, body = status.to_wire(known)
        told = [(load.HEADER, known.load)] if known.load else []
        return cls(known.code, [(":status", str(known.status)), *headers.items(), *told], body)


class Inbound:
    """Serves what peers send. One `serve` runs per stream, owned by the link and cancelled with the stream."""

    def __init__(self, around: Surroundings, seen: Seen, body_limit_bytes: int) -> None:
        self._around = around
        self._seen = seen
        self._body_limit = body_limit_bytes
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
        kind, outcome = "refuse", "cancelled"
        body, refusal = _Body(), None
        try:
            try:
                envelope = wire.read((await stream.head()).items())
                kind = self._kind(envelope)
                with trio.fail_after(envelope.remaining_s):
                    self._check(envelope, link)
                    await self._read_body(link.peer, stream, body)
                    if envelope.free and kind == "relay":
                        envelope = self._choose(envelope, body.whole())
                        kind = self._kind(envelope)
                    answer = await (self._answer if kind == "serve" else self._pass_on)(envelope, body.whole())
                outcome = await self._copy(answer, stream, envelope)
            except (RequestError, DecodeError, trio.TooSlowError) as error:
                refusal = _Refusal.of(error)
            if refusal is not None:
                # Not while the error is handled: see _Refusal.
                outcome = refusal.code
                self._let_go(link.peer, body)
                await _refuse(stream, refusal)
        except LinkError as error:
            outcome = "link_lost"
            logger.debug("the asking peer went away", peer=link.peer.short, reason=str(error))
        finally:
            self.running -= 1
            self._let_go(link.peer, body)
            self._around.metrics.served(kind, outcome)
            if not self.running:
                self._idle.set()

    def _let_go(self, peer: NodeId, body: _Body) -> None:
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

    def _check(self, envelope: wire.Envelope, link: Link) -> None:
        me = self._around.me
        if envelope.path[-1] != link.peer:
            raise BadRequest("the job's path does not end with the node that sent it")
        if me in envelope.path:
            raise NoPeerReachable(f"the job has been at {me.short} before: a loop")
        self._check_roles(envelope.origin, link.peer)
        if not self._seen.first((envelope.origin, envelope.id, envelope.attempt), trio.current_time()):
            raise BadRequest("this attempt of the job has been here before")

    def _check_roles(self, origin: NodeId, sender: NodeId) -> None:
        may, name = self._around.may, self._around.view().name
        if not may(origin, "client"):
            raise Forbidden(f"{name(origin)} may not ask this mesh: it lacks the role client")
        if sender != origin and not may(sender, "relay"):
            raise Forbidden(f"{name(sender)} may not pass on the jobs of others: it lacks the role relay")

    async def _answer(self, envelope: wire.Envelope, body: bytes) -> Answer:
        job = envelope.job(body, read_facts(envelope.route, body, {}), trio.current_time())
        answer = await self._around.local.serve(job)
        clerk = self._around.clerk
        return await clerk.served(answer, job) if clerk is not None else answer

    async def _pass_on(self, envelope: wire.Envelope, body: bytes) -> RemoteAnswer:
        view = self._around.view()
        target = view.name(envelope.target)
        if (refusal := self._relays_not()) is not None:
            raise refusal
        hop = self._around.router.next_hop(view, envelope.target, envelope.path, envelope.hops_left)
        link = self._around.link(hop) if hop is not None else None
        if link is None:
            raise NoPeerReachable(f"there is no path from {view.name(self._around.me)} to {target}")
        return await remote.ask(link, envelope, body, self._around.me, target)

    async def _read_body(self, peer: NodeId, stream: LinkStream, body: _Body) -> None:
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

    async def _copy(self, answer: Answer, stream: LinkStream, envelope: wire.Envelope) -> str:
        """The answer onto the stream; "ok", or the code of the error that cut it."""
        sensitive, serving = envelope.label is Label.SENSITIVE, envelope.target == self._around.me
        headers = wire.passed_on(answer.headers)
        if serving:
            headers[wire.PATH] = wire.write_path((*envelope.path, self._around.me))
        try:
            await stream.send_head([(":status", str(answer.status)), *headers.items()])
            if sensitive:
                stream.pad()
            try:
                if sensitive and serving:
                    await batch.copy(answer, stream.send)
                else:
                    async for data in answer:
                        await stream.send(data)
            except RequestError as error:
                trailers = [(wire.ERROR, error.code), (wire.MESSAGE, _header_text(error.message))]
                await stream.finish(trailers)
                return error.code
            await stream.finish([*{wire.DONE: "1", **answer.trailers}.items()])
            return "ok"
        finally:
            with trio.CancelScope(shield=True):
                await answer.aclose()


async def _refuse(stream: LinkStream, refusal: _Refusal) -> None:
    try:
        await stream.send_head(refusal.head)
        await stream.send(refusal.body)
        await stream.finish([(wire.DONE, "1")])
    except LinkError:
        return


def _as_request_error(error: RequestError | DecodeError | trio.TooSlowError) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, trio.TooSlowError):
        return DeadlineExceeded("no first byte within the time the client gave", phase="first_token")
    return BadRequest(str(error))


def _header_text(text: str) -> str:
    """Header values are one visible line."""
    return "".join(c if 32 <= ord(c) < 127 else " " for c in text)[:512].strip()
