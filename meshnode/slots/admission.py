"""Admission at one engine instance: who holds a slot, who waits, who is refused. Pure; requests.md §2.

Leaving is one event for every phase: a ticket that waits is forgotten, a grant is given back. Whoever waits keeps its
own deadline and leaves when it passes, so nothing here needs waking. Counterpart: the engine room's doors (dispatch).
"""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.model.job import Priority
from meshnode.slots.queue import Queue, Ticket

AGEING_S = 30.0
"""Waiting this long lifts a ticket by one tier: a low one passes newly arrived high ones after a minute."""

GUESS_S = 10.0
"""How long a slot is held until the first one was seen: a chat answer of 300 tokens at 30 per second."""

_LEARN_SHARE = 0.2
_SHORTEST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Event: `ticket` wants a slot. `deadline` is on the clock of `now`; `expected_s` how long it will hold the slot,
    0 if unknown. An id is used once at a time."""

    ticket: str
    deadline: float
    priority: Priority = Priority.NORMAL
    owner: str = ""
    expected_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Leave:
    """Event: `ticket` is done, or no longer wants: gives back a grant or leaves the queue. Twice does no harm."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Resize:
    """Event: the engine now runs `slots` requests at once. Grants are never taken back; 0 lets everyone wait."""

    slots: int


@dataclass(frozen=True, slots=True)
class Granted:
    """Command: `ticket` holds a slot until it leaves."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Command: `ticket` gets no slot and is forgotten. `reason` is full, deadline, or displaced (by a higher tier)."""

    ticket: str
    reason: str
    retry_after_s: float


Event = Ask | Leave | Resize
Command = Granted | Refused


@dataclass(frozen=True, slots=True)
class Load:
    """Facts that travel: free and busy slots, tickets waiting, and what a newcomer would wait, in seconds."""

    free: int
    busy: int
    queued: int
    expected_wait_s: float


@dataclass(frozen=True, slots=True)
class _Grant:
    expected_s: float
    since: float


class Admission:
    """Slots and queue of one engine. At most `slots` grants at once; nobody waits while a slot is free."""

    def __init__(self, slots: int, queue_min: int, ageing_s: float = AGEING_S) -> None:
        self._slots = slots
        self._queue_min = queue_min
        self._queue = Queue(ageing_s)
        self._grants: dict[str, _Grant] = {}
        self._arrivals = 0
        self._usual_s: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event; what to do follows from it. Raises ValueError for a ticket id that is in use."""
        commands: list[Command] = []
        match event:
            case Ask():
                commands = self._ask(event, now)
            case Leave(ticket):
                self._leave(ticket, now)
            case Resize(slots):
                self._slots = max(0, slots)
        return commands + self._fill(now)

    def snapshot(self, now: float) -> Load:
        """The load at this moment."""
        free = max(0, self._slots - len(self._grants))
        wait_s = 0.0 if free else self._wait_s(Priority.NORMAL, now)
        return Load(free, len(self._grants), len(self._queue), wait_s)

    @property
    def queue_bound(self) -> int:
        """Tickets that may wait: twice the slots, at least the configured number."""
        return max(self._queue_min, 2 * self._slots)

    def _ask(self, ask: Ask, now: float) -> list[Command]:
        if ask.ticket in self._grants or ask.ticket in self._queue:
            raise ValueError(f"ticket {ask.ticket!r} is in use")
        self._arrivals += 1
        ticket = Ticket(ask.ticket, ask.priority, ask.owner, ask.deadline, ask.expected_s, now, self._arrivals)
        if len(self._grants) < self._slots:
            # The queue is empty: nobody waits while a slot is free. _fill grants it at once.
            self._queue.push(ticket)
            return []
        wait_s = self._wait_s(ask.priority, now)
        if now + wait_s > ask.deadline:
            return [Refused(ask.ticket, "deadline", _retry(now + wait_s - ask.deadline))]
        displaced: list[Command] = []
        if len(self._queue) >= self.queue_bound:
            lower = self._queue.last_below(ask.priority, now)
            if lower is None:
                return [Refused(ask.ticket, "full", _retry(self._soonest_s(now)))]
            self._queue.remove(lower.id)
            displaced.append(Refused(lower.id, "displaced", _retry(wait_s)))
        self._queue.push(ticket)
        return displaced

    def _leave(self, ticket: str, now: float) -> None:
        grant = self._grants.pop(ticket, None)
        if grant is None:
            self._queue.remove(ticket)
            return
        held_s = now - grant.since
        self._usual_s = held_s if self._usual_s is None else self._usual_s + _LEARN_SHARE * (held_s - self._usual_s)

    def _fill(self, now: float) -> list[Command]:
        """Hand out what is free. A ticket whose deadline has passed would waste a slot."""
        commands: list[Command] = []
        while len(self._queue) and len(self._grants) < self._slots:
            ticket = self._queue.pop(now)
            if now >= ticket.deadline:
                commands.append(Refused(ticket.id, "deadline", _SHORTEST_RETRY_S))
                continue
            self._grants[ticket.id] = _Grant(self._expected_s(ticket.expected_s), now)
            commands.append(Granted(ticket.id))
        return commands

    def _wait_s(self, priority: Priority, now: float) -> float:
        """What a newcomer of `priority` would wait: the work that runs and the work that goes first, shared by the
        slots. Without slots (the engine is starting) only the queue is known to be ahead."""
        running = sum(self._left_s(grant, now) for grant in self._grants.values())
        ahead = sum(self._expected_s(t.expected_s) for t in self._queue if self._queue.tier(t, now) <= priority)
        return (running + ahead) / max(1, self._slots)

    def _soonest_s(self, now: float) -> float:
        return min((self._left_s(grant, now) for grant in self._grants.values()), default=0.0)

    def _left_s(self, grant: _Grant, now: float) -> float:
        """What a running request still needs; one that is overdue is thought to need a quarter of its time again."""
        return max(grant.expected_s - (now - grant.since), grant.expected_s / 4)

    def _expected_s(self, told_s: float) -> float:
        if told_s > 0:
            return told_s
        return GUESS_S if self._usual_s is None else self._usual_s


def _retry(wait_s: float) -> float:
    """Seconds for Retry-After, within what clients honour."""
    return min(max(wait_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)
