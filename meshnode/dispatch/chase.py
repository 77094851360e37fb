"""Performs what the machine of one request commands (pursuit.py): asks servers, cancels losers, brings back one answer.

Decides nothing. Every flight that it starts is told to routing as answered, failed, refused or cancelled, and every
answer but the winner's is closed. Counterpart: asking.py, which asks one server.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from meshnode.dispatch import ways, wire
from meshnode.dispatch.asking import Tried, ask
from meshnode.dispatch.doubt import Size
from meshnode.dispatch.leases import Signs
from meshnode.dispatch.pursuit import Pursuit
from meshnode.dispatch.pursuit_events import (
    Answered,
    Begin,
    Drop,
    Failed,
    Fault,
    Lose,
    Mute,
    Quiet,
    Try,
    Why,
    Win,
    Woke,
)
from meshnode.errors import (
    AnswerTimedOut,
    ConnectTimedOut,
    DeadlineExceeded,
    FirstTokenTimedOut,
    NoPeerReachable,
    NotShared,
    Overloaded,
    Paused,
    PeerFailed,
    RequestError,
)
from meshnode.observe import log
from meshnode.routing import Attempt, Flight

if TYPE_CHECKING:
    from meshnode.dispatch.dispatcher import Surroundings
    from meshnode.dispatch.journal import Entry
    from meshnode.dispatch.pursuit_events import Command, Event
    from meshnode.model.job import Job

logger = log.get("dispatch")

MOST_AT_ONCE = 32
"""Ends and silences of one request's attempts that wait to be heard: more than there can be."""


class Chase:
    """`await run(…)` once."""

    def __init__(self, around: Surroundings, job: Job, pursuit: Pursuit, entry: Entry) -> None:
        self._around = around
        self._job = job
        self._sent_as = ""
        self._whole = Size.of(job.facts).whole
        self._pursuit = pursuit
        self._entry = entry
        self._flights: dict[int, Flight] = {}
        self._answers: dict[int, Tried] = {}
        self._latest: Attempt | None = None
        self._error: RequestError | None = None
        self._began = 0.0
        self._told: trio.MemorySendChannel[Answered | Failed | Quiet | Mute] | None = None

    async def run(self, until: float, *, hasty: bool) -> Tried:
        """The answer that won. Raises the RequestError that ended the request, DeadlineExceeded at `until`; `hasty`:
        that is earlier than a server may be blamed for. Leaving leaves nothing behind."""
        won = 0
        try:
            with trio.CancelScope(deadline=until):
                won = await self._pursue()
            if not won:
                router, now = self._around.router, trio.current_time()
                for number, flight in self._flights.items():
                    if not flight.ended:
                        self._entry.note(now, "failed", number, flight.node, DeadlineExceeded.code)
                    (router.cancelled if hasty else router.failed)(flight, now)
                raise self._too_slow(now - self._began)
            return self._answers.pop(won)
        finally:
            if won == 0:
                self._pursuit.leave()
            if won == 0 or len(self._flights) > 1:
                await self._let_go(won)

    async def _let_go(self, won: int) -> None:
        """Of whoever was cancelled while it was asked, and of whoever answered and did not win."""
        now = trio.current_time()
        for number, flight in self._flights.items():
            if number != won:
                if not flight.ended:
                    self._entry.note(now, "let go", number, flight.node)
                hung = won and number in self._pursuit.hung
                (self._around.router.failed if hung else self._around.router.cancelled)(flight, now)
        with trio.CancelScope(shield=True):
            while self._answers:
                await self._answers.popitem()[1].answer.aclose()

    async def _pursue(self) -> int:
        """The number of the attempt that won. One server after the other in this task; as soon as several may be asked
        at once, each in its own."""
        pursuit = self._pursuit
        self._began = trio.current_time()
        commands = pursuit.handle(Begin(), self._began)
        while True:
            match commands:
                case [Try() as order] if pursuit.next_wakeup() is None:
                    event: Event = await self._ask(order)
                case [Win(number)]:
                    return number
                case [Lose() as end]:
                    raise self._lost(end)
                case []:
                    await trio.sleep_until(pursuit.next_wakeup() or 0.0)
                    event = Woke()
                case _:
                    return await self._race(commands)
            commands = pursuit.handle(event, trio.current_time())

    async def _race(self, commands: list[Command]) -> int:
        told, events = trio.open_memory_channel[Answered | Failed | Quiet | Mute](MOST_AT_ONCE)
        self._told = told
        scopes: dict[int, trio.CancelScope] = {}

        async def ask(order: Try, scope: trio.CancelScope) -> None:
            with scope:
                told.send_nowait(await self._ask(order))

        async with trio.open_nursery() as nursery:
            while True:
                for command in commands:
                    match command:
                        case Try(number):
                            scopes[number] = trio.CancelScope()
                            nursery.start_soon(ask, command, scopes[number])
                        case Drop(number):
                            scopes[number].cancel()
                if self._pursuit.ended:
                    break
                commands = await self._heard(events)
        end = commands[-1]
        if isinstance(end, Win):
            return end.number
        assert isinstance(end, Lose)
        raise self._lost(end)

    async def _heard(self, events: trio.MemoryReceiveChannel[Answered | Failed | Quiet | Mute]) -> list[Command]:
        """What follows from the next event, or from waking."""
        wakeup = self._pursuit.next_wakeup()
        event: Event = Woke()
        with trio.CancelScope(deadline=wakeup if wakeup is not None else inf):
            event = await events.receive()
        return self._pursuit.handle(event, trio.current_time())

    async def _ask(self, order: Try) -> Answered | Failed:
        around, attempt, number = self._around, order.attempt, order.number
        around.metrics.attempt()
        self._latest = attempt
        now = trio.current_time()
        if not self._sent_as and attempt.node != around.me:
            self._sent_as = wire.name_of(self._job)
        flight = around.router.started(
            attempt, self._job.facts.prompt_tokens, now, at_once=order.at_once, whole=self._whole
        )
        self._entry.note(now, "asked", number, attempt.node, order.role.value)
        self._flights[number] = flight
        try:
            signs = Signs(partial(self._quiet, number), partial(self._mute, number), partial(self._placed, number))
            tried = await ask(around, self._job, self._sent_as, order, flight, signs)
        except RequestError as error:
            self._learn(flight, error)
            self._entry.note(trio.current_time(), "failed", number, attempt.node, error.code)
            if self._error is None or self._error.elsewhere:
                self._error = error
            # Without the error's text: an engine's may quote the prompt.
            logger.info("a server did not answer", job=self._job.id, node=self._name(attempt), attempt=number,
                        code=error.code)  # fmt: skip
            cut = isinstance(error, PeerFailed | ConnectTimedOut) and ways.cut(around, self._job, attempt)
            return Failed(number, _fault(error), cut)
        self._answers[number] = tried
        return Answered(number)

    def _quiet(self, number: int) -> None:
        if self._told is not None:
            self._entry.note(trio.current_time(), "quiet", number, self._flights[number].node)
            self._told.send_nowait(Quiet(number))

    def _mute(self, number: int) -> None:
        if self._told is not None:
            self._entry.note(trio.current_time(), "mute", number, self._flights[number].node)
            self._told.send_nowait(Mute(number))

    def _placed(self, number: int, place: int) -> None:
        self._entry.placed(trio.current_time(), number, self._flights[number].node, place)

    def _lost(self, end: Lose) -> RequestError:
        """What ended the request. Not kept: an error that its own traceback's frames hold would keep the body until the
        next full collection."""
        error, self._error = self._error, None
        if end.why is Why.BUDGET:
            logger.warning("not tried elsewhere: too many requests are being retried", job=self._job.id)
        try:
            return error if error is not None else NoPeerReachable(
                f"nobody was left to ask for {self._job.facts.model!r}")  # fmt: skip
        finally:
            del error

    def _learn(self, flight: Flight, error: RequestError) -> None:
        now = trio.current_time()
        if isinstance(error, Overloaded):
            self._around.router.refused(flight, error.retry_after_s, now)
        elif error.elsewhere and not isinstance(error, NotShared | Paused):
            self._around.router.failed(flight, now)
        else:
            self._around.router.cancelled(flight, now)

    def _too_slow(self, waited_s: float) -> DeadlineExceeded:
        stream = self._job.facts.stream
        what = "the first token" if stream else "the answer"
        who = self._name(self._latest) if self._latest is not None else "nobody"
        text = f"{who} did not send {what} within {waited_s:.1f} s"
        if trio.current_time() >= self._job.deadline:
            return DeadlineExceeded(text, phase="first_token" if stream else "total")
        return (FirstTokenTimedOut if stream else AnswerTimedOut)(text + "; ask a smaller model, or stream")

    def _name(self, attempt: Attempt) -> str:
        return self._around.view().name(attempt.node)


def _fault(error: RequestError) -> Fault:
    if isinstance(error, Overloaded | NotShared | Paused):
        return Fault.FULL
    return Fault.BROKEN if error.elsewhere else Fault.FINAL
