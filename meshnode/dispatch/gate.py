"""The shell around one engine's admission machine: a job waits here until the machine grants it a slot.

Every decision is the machine's (slots.admission); this wakes the waiters. Leaving while waiting takes the ticket back.
"""

from __future__ import annotations

import itertools

import trio

from meshnode.errors import Overloaded
from meshnode.model.job import Job
from meshnode.slots.admission import Admission, Ask, Granted, Leave, Load, Refused, Resize


class Gate:
    """Slots of one engine. `await enter(job)` returns a ticket to `leave` with, exactly once."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._tickets = itertools.count(1)
        self._waiting: dict[str, trio.Event] = {}
        self._refused: dict[str, Refused] = {}

    async def enter(self, job: Job, engine: str) -> str:
        """Wait for a slot. Raises Overloaded when the machine refuses, with when to come back."""
        ticket = str(next(self._tickets))
        granted = trio.Event()
        self._waiting[ticket] = granted
        self._handle(Ask(ticket, job.deadline, job.priority, job.owner))
        try:
            if not granted.is_set():
                await granted.wait()
        except trio.Cancelled:
            self.leave(ticket)
            self._refused.pop(ticket, None)
            raise
        finally:
            self._waiting.pop(ticket, None)
        refused = self._refused.pop(ticket, None)
        if refused is not None:
            raise Overloaded(f"{engine} is full: {refused.reason}", retry_after_s=refused.retry_after_s)
        return ticket

    def leave(self, ticket: str) -> None:
        """Give the slot, or the place in the queue, back."""
        self._handle(Leave(ticket))

    def resize(self, slots: int) -> None:
        """The engine runs `slots` requests at once from now on."""
        self._handle(Resize(slots))

    def load(self) -> Load:
        """Slots and queue as they are now."""
        return self._admission.snapshot(trio.current_time())

    def _handle(self, event: Ask | Leave | Resize) -> None:
        for command in self._admission.handle(event, trio.current_time()):
            match command:
                case Granted(ticket):
                    self._waiting[ticket].set()
                case Refused(ticket):
                    self._refused[ticket] = command
                    self._waiting[ticket].set()
