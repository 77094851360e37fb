"""The shell around one engine's admission machine: a job waits here until the machine grants it a slot.

Every decision is the machine's (slots.admission); this wakes the waiters. Leaving while waiting takes the ticket back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import trio

from meshnode.dispatch.ears import Ear
from meshnode.errors import NotShared, Overloaded, Paused, RequestError
from meshnode.model.job import Job
from meshnode.slots.admission import Admission
from meshnode.slots.admission_events import (
    Ask,
    Command,
    Event,
    Granted,
    Leave,
    Load,
    Refused,
    Resident,
    Resize,
    Terms,
    Waiting,
)
from meshnode.slots.ailing import FIRST_S, Ailing

PLACES_S = 0.5
"""Places that are shown may be so old: each job that waits asks each second, and the queue is ordered once for all."""


class Place(NamedTuple):
    """A slot, to be left with `ticket`. `position` in the queue as it was at entry; 0 where there was no wait."""

    ticket: str
    position: int


class Gate:
    """Slots of one engine. `await enter(job)` returns a place to `leave`, exactly once."""

    def __init__(
        self, admission: Admission, slots: int, terms: Terms, ear: Callable[[Callable[[], None]], Ear]
    ) -> None:
        """`ear` makes what listens to the engine, and tells what it is given when that goes mute."""
        self._admission = admission
        self._slots = slots
        self._resident: frozenset[str] | None = None
        self.terms = terms
        self._tickets = itertools.count(1)
        self._waiting: dict[str, trio.Event] = {}
        self._refused: dict[str, Refused] = {}
        self._jobs: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._placed_at = -inf
        self._ailing = Ailing()
        self.ear = ear(self.fell_mute)

    async def enter(self, job: Job, model: str, owner: str, engine: str) -> Place:
        """Wait for a slot on `owner`'s account, for `model` as the engine names it. Raises Overloaded, NotShared,
        Paused when the machine refuses."""
        ticket, position, now = str(next(self._tickets)), 0, trio.current_time()
        if job.at_once and (ails_s := self._ailing.wait_s(now)):
            raise Overloaded(f"{engine} fails, or says nothing: better ask elsewhere first", retry_after_s=ails_s)
        ask = Ask(ticket, job.deadline, job.priority, owner, at_once=job.at_once, model=model)
        commands = self._admission.handle(ask, now)
        if commands == [Granted(ticket)]:
            return Place(ticket, position)
        granted = self._waiting[ticket] = trio.Event()
        self._perform(commands)
        try:
            if not granted.is_set():
                position = self._admission.position(ticket, trio.current_time())
                self._jobs[job.id] = ticket
                await granted.wait()
        except trio.Cancelled:
            self.leave(ticket)
            self._refused.pop(ticket, None)
            raise
        finally:
            self._waiting.pop(ticket, None)
            if position and self._jobs.get(job.id) == ticket:
                del self._jobs[job.id]
        refused = self._refused.pop(ticket, None)
        if refused is not None:
            raise _error(refused, engine)
        return Place(ticket, position)

    def leave(self, ticket: str) -> None:
        """Give the slot, or the place in the queue, back."""
        self._handle(Leave(ticket))

    def adjust(self, slots: int, resident: frozenset[str] | None, terms: Terms) -> None:
        """The engine runs `slots` requests at once and has the `resident` models loaded, and its machine's owner wants
        `terms`, from now on."""
        if slots != self._slots:
            self._slots = slots
            self._handle(Resize(slots))
        if resident is not self._resident:
            self._resident = resident
            self._handle(Resident(resident))
        if terms is not self.terms:
            self.terms = terms
            self._handle(terms)

    def load(self, *, own: bool = True) -> Load:
        """Slots and queue as they are now, for the machine's owner or for others; of an engine that ails there is none
        free, and the wait longer than until it may be asked again: it need not answer then, and a short wait would keep
        this node's own clients here."""
        now = trio.current_time()
        load, ails_s = self._admission.snapshot(now, own=own), self._ailing.wait_s(now)
        if not ails_s:
            return load
        return load._replace(free=0, expected_wait_s=max(load.expected_wait_s, ails_s + FIRST_S))

    def failed(self) -> None:
        """The engine failed a request."""
        self._ailing.failed(trio.current_time())

    def fell_mute(self) -> None:
        """The engine says nothing on what it was sent."""
        self._ailing.mute(trio.current_time())

    def spoke(self) -> None:
        """It began to answer."""
        self._ailing.spoke()

    def succeeded(self, began: float) -> None:
        """It answered one that it was sent at `began`."""
        self._ailing.succeeded(began)

    def waiting(self) -> list[Waiting]:
        """Who waits, next first."""
        return self._admission.waiting(trio.current_time())

    def position(self, job_id: str) -> int:
        """The place in the queue of a job; 0 for one that does not wait here."""
        ticket, now = self._jobs.get(job_id), trio.current_time()
        if ticket is None:
            return 0
        if now >= self._placed_at + PLACES_S or ticket not in self._places:
            self._places, self._placed_at = self._admission.places(now), now
        return self._places.get(ticket, 0)

    def _handle(self, event: Event) -> None:
        self._perform(self._admission.handle(event, trio.current_time()))

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Granted(ticket):
                    self._waiting[ticket].set()
                case Refused(ticket):
                    self._refused[ticket] = command
                    self._waiting[ticket].set()


def _error(refused: Refused, engine: str) -> RequestError:
    if refused.reason == "foreign":
        return NotShared("this machine takes only its owner's requests now")
    if refused.reason == "paused":
        return Paused("this machine is paused: it takes no requests now")
    return Overloaded(f"{engine} is full: {_WHY[refused.reason]}", retry_after_s=refused.retry_after_s)


_WHY = {
    "busy": "every slot is taken, and it was asked for one at once",
    "full": "every slot is taken, and the queue is full",
    "deadline": "the wait would be longer than the time that this request has",
    "displaced": "its place in the queue went to a request that goes first",
}
