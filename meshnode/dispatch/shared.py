"""One running answer that several clients read: each from its start, none waiting for another, the last out ends it.

A task of its own reads the answer, little further than the quickest of its readers. Not for who may share (coalesce).
Counterpart: dispatcher.py, which makes the answer.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from meshnode.dialects.status import DONE
from meshnode.dispatch.delivered import TAIL_S
from meshnode.dispatch.replay import Replay
from meshnode.errors import DeadlineExceeded, Draining, RequestError
from meshnode.observe import log

if TYPE_CHECKING:
    from meshnode.dispatch.journal import Entry
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job

logger = log.get("dispatch")


class Run:
    """`job` is that of the client who came first. `over`: nothing more will come; `whole`: nor is anything missing.
    `kept`: what came outlives its readers; `taken`: how many pieces the quickest of them has had."""

    def __init__(self, job: Job, replay: Replay) -> None:
        self.job = job
        self.replay = replay
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.trailers: Mapping[str, str] = {}
        self.begun = trio.Event()
        self.over = self.whole = self.kept = False
        self.error: RequestError | None = None
        self.changed = trio.Event()
        self.taken = 0
        self._ahead_bytes = 0
        self._wanted = trio.Event()
        self._readers = 0
        self._scope = trio.CancelScope()

    async def pump(self, dispatch: Callable[[Job], Awaitable[Answer]], ended: Callable[[Run], None]) -> None:
        """Ask, and read what is wanted. Raises nothing of the answer's own."""
        try:
            with self._scope:
                await self._copy(dispatch)
        except RequestError as error:
            # Its frames would keep the body for as long as the error is kept.
            self.error = copy.copy(error).with_traceback(None)
        except Exception as error:  # crash barrier: one answer's fault is not its neighbours'
            log.crash(logger, "a shared answer crashed", error, job=self.job.id)
            self.error = RequestError("The node failed at this")
        finally:
            self.whole = self.whole or (self.error is None and self.replay.last.endswith(DONE))
            if not self.whole and self.error is None:
                self.error = Draining("the answer was given up")
            self.over = True
            # Its body is needed no more, and an answer may be kept for long.
            self.job = dataclasses.replace(self.job, body=b"")
            ended(self)
            self._drop_unread()
            self.begun.set()
            self._tell()

    async def _copy(self, dispatch: Callable[[Job], Awaitable[Answer]]) -> None:
        answer = await dispatch(self.job)
        self.status, self.headers = answer.status, answer.headers
        self.begun.set()
        try:
            while True:
                piece = await answer.__anext__()
                self.replay.add(piece, self.taken)
                self._ahead_bytes += len(piece)
                self._tell()
                while self._ahead_bytes > self.replay.most_ahead_bytes:
                    self._wanted = trio.Event()
                    await self._wanted.wait()
        except StopAsyncIteration:
            self.trailers = dict(answer.trailers)
            self.whole = True
        finally:
            with trio.CancelScope(shield=True):
                await answer.aclose()

    def want(self) -> None:
        """A reader has all that came."""
        self._ahead_bytes = 0
        self._wanted.set()

    def join(self) -> None:
        """One more reader."""
        self._readers += 1

    def leave(self) -> None:
        """One less. The last one out cancels what nobody reads, but for the end that follows `[DONE]` at once."""
        self._readers -= 1
        if self.over:
            self._drop_unread()
        elif self._readers:
            return
        elif self.replay.last.endswith(DONE):
            self._scope.deadline = trio.current_time() + TAIL_S
            self.want()
        else:
            self._scope.cancel()

    def forget(self) -> None:
        """It need not outlive its readers any more."""
        self.kept = False
        self._drop_unread()

    @property
    def left(self) -> bool:
        """Whether nobody reads it any more."""
        return not self._readers

    def _drop_unread(self) -> None:
        if not self._readers and not self.kept:
            self.replay.drop()

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class Reader:
    """One client's answer out of a Run: an Answer. It has joined; closing it leaves."""

    def __init__(self, run: Run, job: Job, headers: Mapping[str, str], entry: Entry | None) -> None:
        self.status = run.status
        self.headers = headers
        self._run: Run | None = run
        self._shared = run
        self._deadline = job.deadline
        self._entry = entry
        self._next = 0

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._shared.trailers

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._piece()
        except RequestError as error:
            self._end(error.code)
            raise
        if piece is None:
            self._end("ok")
            raise StopAsyncIteration
        if not self._next and self._entry is not None:
            self._entry.note(trio.current_time(), "first token")
        self._next += 1
        self._shared.taken = max(self._shared.taken, self._next)
        return piece

    async def aclose(self) -> None:
        self._end("cancelled")

    async def _piece(self) -> bytes | None:
        run = self._shared
        await trio.lowlevel.checkpoint()
        while (piece := run.replay.at(self._next)) is None:
            if run.over:
                if run.error is not None:
                    raise copy.copy(run.error)
                return None
            run.want()
            with trio.CancelScope(deadline=self._deadline) as patience:
                await run.changed.wait()
            if patience.cancelled_caught:
                raise DeadlineExceeded("the request's time ran out before the answer was whole")
        return piece

    def _end(self, outcome: str) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        if outcome == "cancelled" and run.whole and self._next == run.replay.came:
            outcome = "ok"
        run.leave()
        if self._entry is not None:
            self._entry.ended(trio.current_time(), outcome, self._next)
