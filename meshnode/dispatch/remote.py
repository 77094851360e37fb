"""The remote door: a job goes out on a link to the next hop, and what comes back is an Answer.

Counterpart: inbound.py at the next hop. Not for choosing the hop (routing) nor for trying again (dispatcher.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from meshnode.dialects import Judge, Unjudged, judge_of, status
from meshnode.dispatch import load, wire
from meshnode.errors import (
    DeadlineExceeded,
    DecodeError,
    EngineFailed,
    LinkError,
    PeerFailed,
    RequestError,
    StreamReset,
    Unauthorized,
)
from meshnode.gossip.facts import Facts
from meshnode.model.job import Label
from meshnode.mux.events import CANCEL

if TYPE_CHECKING:
    from meshnode.dispatch.leases import Lease, Leases, Served, Signs
    from meshnode.dispatch.wire import Envelope
    from meshnode.model.ids import NodeId
    from meshnode.net import Link, LinkStream

MAX_ERROR_BYTES = 256 * 1024
"""A refusal's body is read up to here."""


Told = Callable[[Facts], None]


def _unheard(_: Facts) -> None:
    return None


class RemoteAnswer:
    """An answer that arrives over a link. Ends with PeerFailed when it was cut, or the server's error."""

    def __init__(self, stream: LinkStream, headers: Mapping[str, str], lease: Lease, told: Told, judge: Judge) -> None:
        self.status = _status(headers)
        self.headers = wire.passed_on(headers)
        self._stream = stream
        self._first = b""
        self._lease = lease
        self._judge = judge
        self._told = told
        self._over = False

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._stream.trailers

    def __aiter__(self) -> RemoteAnswer:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        while not self._over:
            try:
                data = await self._stream.receive_some()
            except LinkError as error:
                self._end()
                if self._lease.lost is not None:
                    raise self._lease.lost from error
                raise PeerFailed(f"the answer from {self._lease.peer} was cut: {error}") from error
            if data := self._judged(data) if data else self._rest():
                return data
        raise StopAsyncIteration

    async def begin(self) -> None:
        """Wait until it says something, or all of it is here. Raises as the whole does."""
        with suppress(StopAsyncIteration):
            self._first = await self.__anext__()

    def _judged(self, data: bytes) -> bytes:
        try:
            return self._judge.feed(data)
        except DecodeError as error:
            raise PeerFailed(f"{self._lease.peer} said {error}") from error

    def _rest(self) -> bytes:
        """The stream is over."""
        self._end()
        trailers = self._stream.trailers
        if (facts := load.read(trailers)) is not None:
            self._told(facts)
        if wire.ERROR in trailers:
            error = _of_peer(status.from_wire(502, trailers, trailers.get(wire.MESSAGE, "").encode()))
            if self._lease.onward is None and isinstance(error, EngineFailed | DeadlineExceeded):
                error = error.at(self._lease.peer)
            raise error
        if wire.DONE not in trailers:
            raise PeerFailed(f"the answer from {self._lease.peer} ended early")
        try:
            rest = self._judge.rest()
        except DecodeError as error:
            raise PeerFailed(f"{self._lease.peer} said {error}") from error
        if not self._judge.finished:
            raise PeerFailed(f"the answer from {self._lease.peer} ended before it said it was done")
        return rest

    async def aclose(self) -> None:
        if not self._over:
            self._end()
            self._stream.reset(CANCEL)
        await self._stream.aclose()

    def _end(self) -> None:
        self._over = True
        self._lease.give()


async def ask(
    link: Link, envelope: Envelope, body: bytes, me: NodeId, peer: str, told: Told = _unheard,
    *, leases: Leases, onward: Served | None = None, signs: Signs | None = None,
) -> RemoteAnswer:  # fmt: skip
    """Send a job over `link` and return once its first bytes are here.

    `peer` names the server for error texts; `told` is given what it says of its load as it answers or refuses;
    `onward` is whose job it is, where this node only passes it on; `signs` are told until there is an answer. Raises
    the server's RequestError, or PeerFailed (LeaseExpired). Cancelling resets the stream, which cancels every hop
    behind it.
    """
    try:
        padded = envelope.label is Label.SENSITIVE
        stream = await link.request(wire.write(envelope, me), end=not body, padded=padded)
    except LinkError as error:
        raise PeerFailed(f"{peer} cannot be reached: {error}") from error
    lease = leases.take(stream, peer, onward)
    lease.tell(signs)
    try:
        return await _answer(stream, envelope, body, lease, told)
    except BaseException as error:
        lease.give()
        stream.reset(CANCEL)
        if isinstance(error, LinkError):
            if lease.lost is not None:
                raise lease.lost from error
            raise PeerFailed(f"{peer} was lost before it answered: {error}") from error
        with trio.CancelScope(shield=True):
            await stream.aclose()
        raise


async def _answer(stream: LinkStream, envelope: Envelope, body: bytes, lease: Lease, told: Told) -> RemoteAnswer:
    """Raises LinkError, RequestError."""
    if body:
        await _send(stream, body)
    headers = await stream.head()
    if wire.ERROR in headers:
        raise _refused(headers, await _read_all(stream), told)
    if headers.get(wire.ATTEMPT, str(envelope.attempt)) != str(envelope.attempt):
        raise PeerFailed(f"{lease.peer} answered another attempt of the job than it was asked for")
    judge = Unjudged() if lease.onward is not None else judge_of(_status(headers), headers)
    answer = RemoteAnswer(stream, headers, lease, told, judge)
    await answer.begin()
    lease.tell(None)
    return answer


async def _send(stream: LinkStream, body: bytes) -> None:
    """A request's body, whole."""
    try:
        await stream.send(body)
        await stream.finish()
    except StreamReset:
        # Refused before it was read in full, as HTTP lets a server do: the answer says why.
        if not stream.answered:
            raise


def _refused(headers: Mapping[str, str], body: bytes, told: Told) -> RequestError:
    error = _of_peer(status.from_wire(_status(headers), headers, body))
    if (facts := load.read(headers)) is not None:
        error.load = headers[load.HEADER]
        told(facts)
    return error


def _of_peer(error: RequestError) -> RequestError:
    """Who may ask is for the entry node to say: clients would take another's 401 for a word on their own key."""
    return PeerFailed(f"the peer refuses credentials: {error.message}") if isinstance(error, Unauthorized) else error


def _status(headers: Mapping[str, str]) -> int:
    """A final status. Raises PeerFailed for anything else a peer may have put there."""
    text = headers[":status"]
    if len(text) != 3 or not text.isascii() or not text.isdigit() or not 200 <= int(text) <= 599 or text == "401":
        raise PeerFailed(f"the peer answered with the status {text!r:.20}")
    return int(text)


async def _read_all(stream: LinkStream) -> bytes:
    body = bytearray()
    while len(body) < MAX_ERROR_BYTES:
        data = await stream.receive_some()
        if not data:
            break
        body += data
    return bytes(body)
