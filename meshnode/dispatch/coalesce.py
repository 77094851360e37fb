"""One answer for several requests: the same deterministic question asked at once, or one idempotency key asked again.

Whoever comes later reads the answer from its start and follows it. Only within one credential; what is sensitive is
shared under its own key alone, while it runs, and never kept. The promise is at most one delivered answer for a key;
executions may repeat. requests.md §3.
Counterparts: shared.py (the running answer), keys.py (what was promised), dispatcher.py (what is not shared).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Hashable
from hashlib import sha256
from typing import TYPE_CHECKING

import trio

from meshnode.config.dispatch import DispatchSection
from meshnode.dialects.determined import determined
from meshnode.dispatch.keys import Keys
from meshnode.dispatch.replay import Pool, Replay
from meshnode.dispatch.shared import Reader, Run
from meshnode.errors import DeadlineExceeded, RequestError
from meshnode.model.job import Label

if TYPE_CHECKING:
    from meshnode.dispatch.dispatcher import Dispatcher
    from meshnode.model.answer import Answer
    from meshnode.model.job import Job

ENOUGH = 0.5
"""Who has more than twice the time that is left to a running answer asks for one of its own."""


class Coalescer:
    """`await dispatch(job)` as the dispatcher's, which it asks; sharing works while `run` does."""

    def __init__(self, dispatcher: Dispatcher, section: DispatchSection) -> None:
        self._dispatcher = dispatcher
        self._section = section
        self._pool = Pool(section.shared_bytes)
        self._keys = Keys(section.idempotency_keys, section.idempotency_s, section.shared_bytes // 2)
        self._runs: dict[Hashable, Run] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the answers that are shared. Returns only by cancellation."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def dispatch(self, job: Job) -> Answer:
        """Answer one request of this node's own clients. Raises RequestError."""
        if self._nursery is None:
            return await self._dispatcher.dispatch(job)
        # By an alias it may be sensitive, and as such neither shared nor kept.
        job = self._dispatcher.constrain(job)
        if job.wishes.idempotency_key:
            return await self._keyed(job, self._nursery)
        if job.label is Label.SENSITIVE or not determined(job.route, job.body):
            return await self._dispatcher.dispatch(job)
        meant = _meant(job)
        run = self._runs.get(meant)
        if run is None:
            run = self._runs[meant] = self._new(job)
            self._nursery.start_soon(run.pump, self._dispatcher.dispatch, lambda run: self._over(meant, run))
        elif not _joinable(run, job):
            return await self._dispatcher.dispatch(job)
        return await self._read(run, job)

    async def _keyed(self, job: Job, nursery: trio.Nursery) -> Answer:
        key, meant = (job.wishes.tenant, job.wishes.idempotency_key), _meant(job)
        run = self._keys.find(key, meant, trio.current_time())
        while run is not None and run.left and not run.over:
            # All its readers left just now: it will have ended in a moment, and freed the key.
            await run.changed.wait()
            run = self._keys.find(key, meant, trio.current_time())
        if run is None:
            run = self._new(job)
            run.kept = True
            keep = job.label is not Label.SENSITIVE
            self._keys.began(key, meant, run)
            nursery.start_soon(
                run.pump, self._dispatcher.dispatch, lambda _: self._keys.ended(key, trio.current_time(), keep=keep)
            )
        return await self._read(run, job)

    def _new(self, job: Job) -> Run:
        return Run(job, Replay(self._pool, self._section.shared_stream_bytes))

    def _over(self, meant: Hashable, run: Run) -> None:
        """It can be joined no more; those who read it keep it."""
        self._runs.pop(meant, None)

    async def _read(self, run: Run, job: Job) -> Answer:
        """The answer of `run` for the client of `job`, once it has begun."""
        first, replayed = run.job is job, run.over
        entry = None
        if not first:
            entry = self._dispatcher.journal.begin(job, trio.current_time())
            entry.cache = "replayed" if replayed else "coalesced"
            entry.shares = run.job.id
            self._dispatcher.journal.keep(entry)
        run.join()
        outcome = "cancelled"
        try:
            with trio.CancelScope(deadline=job.deadline) as patience:
                await run.begun.wait()
            if patience.cancelled_caught:
                raise DeadlineExceeded("the request's time ran out before the answer began", phase="first_token")
            if not run.status:
                assert run.error is not None
                raise copy.copy(run.error)
        except RequestError as error:
            outcome = error.code
            raise
        else:
            outcome = ""
        finally:
            if outcome:
                run.leave()
                if entry is not None:
                    entry.ended(trio.current_time(), outcome)
        headers = run.headers if entry is None else {**run.headers, "x-meshnode-cache": entry.cache}
        return Reader(run, job, headers, entry)


def _meant(job: Job) -> Hashable:
    """All that makes two requests the same: everything but their names and times."""
    bare = dataclasses.replace(job, id="", body=b"", deadline=0.0, traceparent="")
    return bare, sha256(job.body).digest()


def _joinable(run: Run, job: Job) -> bool:
    now = trio.current_time()
    enough = run.job.deadline - now >= ENOUGH * (job.deadline - now)
    return enough and run.replay.from_start and not run.left
