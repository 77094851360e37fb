"""One streamed reply: copies events as they come, speaks while the answer is silent, says so when it breaks.

Not for reading events (dialects.sse) nor for HTTP framing (the lane). Counterpart: handlers, which chooses it for jobs
that asked for a stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from meshnode.dialects import WholeEvents, first_event_is_error, from_engines_event, from_wire
from meshnode.dialects.speech import speech_of
from meshnode.errors import DeadlineExceeded, EngineFailed, RequestError
from meshnode.front.reply import Reply, close, copy_whole, encode, pass_headers, refuse
from meshnode.model.answer import Answer
from meshnode.model.job import Job
from meshnode.observe import log

logger = log.get("front")

ERROR_BYTES = 64 * 1024
"""Read at most of an error's body that must become an event."""

_EVENT_STREAM = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold events back
}


class StreamedReply:
    """Two tasks write to one reply: the copier whenever something came, the timer when nothing did for a while.

    The lock keeps their writes apart; it is free except while one of them writes, and then costs no checkpoint. Between
    two writes the stream always stands at an event's end (WholeEvents), so a comment or an error may stand there too.
    """

    def __init__(
        self, reply: Reply, job: Job, keepalive_s: float, backstop: float, queued: Callable[[str], int]
    ) -> None:
        """`backstop` is when the front ends the request itself, on trio's clock; `queued` the place of a job in a
        queue, by its id."""
        self._reply = reply
        self._job = job
        self._keepalive_s = keepalive_s
        self._backstop = backstop
        self._queued = queued
        self._lock = trio.Lock()
        self._events = WholeEvents()
        self._speech = speech_of(job.route)
        self._patience = trio.CancelScope()
        self._committed = False
        self._ended = False
        self._last = b""
        self._spoke_at = trio.current_time()

    async def run(self, dispatch: Callable[[Job], Awaitable[Answer]]) -> None:
        """Dispatch the job and copy its answer. Returns when the reply has its end, or is past having one."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            try:
                with self._patience:
                    await self._answer(dispatch)
                if self._patience.cancelled_caught:
                    raise DeadlineExceeded("The request's time ran out")
            except RequestError as error:
                await self._fail(error)
            async with self._lock:  # a keepalive that is being written is finished first
                nursery.cancel_scope.cancel()

    async def _answer(self, dispatch: Callable[[Job], Awaitable[Answer]]) -> None:
        answer = await dispatch(self._job)
        try:
            if answer.status != 200 or not _is_event_stream(answer):
                await self._pass_whole(answer)
            else:
                await self._copy(answer)
        finally:
            await close(answer)

    async def _copy(self, answer: Answer) -> None:
        async for chunk in answer:
            if not self._committed:
                if first_event_is_error(chunk):
                    raise from_engines_event(chunk)
                await self._commit(pass_headers(answer.headers, self._job.id))
            ready = self._events.feed(chunk)
            if ready:
                await self._speak(ready)
                self._last = ready
        await self._commit(pass_headers(answer.headers, self._job.id))
        await self._speak(self._events.rest(), more=False)

    async def _pass_whole(self, answer: Answer) -> None:
        """An error, or an engine that does not stream: copied, unless a keepalive has promised a stream by now."""
        async with self._lock:
            if not self._committed:
                await copy_whole(answer, self._reply, self._job.id, self._backstop)
                self._committed = self._ended = True  # not before: it raises while nothing was sent
                return
        if answer.status < 400:
            raise EngineFailed("The engine answered without a stream although one was asked for")
        body = b""
        async for chunk in answer:
            body += chunk
            if len(body) > ERROR_BYTES:
                break
        raise from_wire(answer.status, answer.headers, body)

    async def _keep_alive(self) -> None:
        """A timer of its own, independent of tokens; also ends a request whose dispatcher forgot its deadline."""
        while True:
            await trio.sleep_until(min(self._spoke_at + self._keepalive_s, self._backstop))
            now = trio.current_time()
            if now >= self._backstop:
                async with self._lock:  # never cut a write: the client would see half an event
                    self._patience.cancel()
                return
            if self._lock.locked() or self._speech.keepalive is None:
                self._spoke_at = now
            elif now - self._spoke_at >= self._keepalive_s:
                await self._commit({"x-request-id": self._job.id})
                if self._events.at_boundary:
                    await self._speak(self._sign())
                self._spoke_at = now

    def _sign(self) -> bytes:
        # The place as it is now, not as it was at entry: it is why a person looks.
        return self._speech.sign(self._queued(self._job.id)) or b""

    async def _commit(self, headers: dict[str, str]) -> None:
        if self._committed:
            return
        async with self._lock:
            if not self._committed:
                self._committed = True
                await self._reply.start(200, encode({**headers, **_EVENT_STREAM}))

    async def _speak(self, data: bytes, more: bool = True) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            if not self._ended:
                self._ended = not more
                await self._reply.send(data, more)
                self._spoke_at = trio.current_time()
        finally:
            self._lock.release()

    async def _fail(self, error: RequestError) -> None:
        async with self._lock:
            if not self._committed:
                self._committed = self._ended = True
                await refuse(self._reply, error, self._job.id)
                return
        if self._speech.ended(self._last):
            # What broke is behind the end: the client has everything, and was told so.
            await self._speak(b"", more=False)
            return
        logger.warning("stream ended with an error", request=self._job.id, code=error.code)
        await self._speak((b"" if self._events.at_boundary else b"\n\n") + self._speech.error(error), more=False)


def _is_event_stream(answer: Answer) -> bool:
    kind = answer.headers.get("content-type") or answer.headers.get("Content-Type") or ""
    return kind.lower().startswith("text/event-stream")
