"""Admission at one engine instance: who holds a slot, who waits, who is refused. Pure; requests.md §2.

Leaving is one event for every phase: a ticket that waits is forgotten, a grant is given back. Whoever waits keeps its
own deadline and leaves when it passes, so nothing here needs waking. Counterpart: the engine room's doors (dispatch).
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from meshnode.model.job import Priority
from meshnode.model.takes import Takes
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
from meshnode.slots.estimate import Held, wait_s
from meshnode.slots.holds import LEAST_S, Holds
from meshnode.slots.queue import Queue
from meshnode.slots.residency import Residency
from meshnode.slots.ticket import Ticket

AGEING_S = 30.0
"""A tier whose oldest ticket waits so long stands one tier higher: a low one is among the high after a minute."""

_SHORTEST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


class _Grant(NamedTuple):
    """`waited`: its owner was charged for it, which is to be settled; not where nobody waited."""

    own: bool
    owner: str
    expected_s: float
    since: float
    waited: bool
    model: str


class Admission:
    """Slots and queue of one engine. At most `slots` grants at once, others than the owner at most `open_slots`; nobody
    waits while a slot is free that it may have."""

    def __init__(self, slots: int, queue_min: int, ageing_s: float = AGEING_S, terms: Terms | None = None) -> None:
        self._slots = slots
        self._queue_min = queue_min
        self._terms = terms if terms is not None else Terms()
        self._residency = Residency()
        self._queue = Queue(ageing_s, self._residency)
        self._holds = Holds()
        self._grants: dict[str, _Grant] = {}
        self._foreign = 0
        self._arrivals = 0

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
            case Resident(models):
                self._residency.told(models)
            case Terms():
                commands = self._agree(event, now)
        return commands + self._fill(now) if self._queue else commands

    def snapshot(self, now: float, *, own: bool = True) -> Load:
        """The load at this moment, as it is for the machine's owner or for others."""
        free = max(0, self._slots - len(self._grants))
        if not own:
            free = max(0, min(free, self.open_slots - self._foreign))
        wait = 0.0
        if not free:
            line = self._line(own=own, priority=Priority.NORMAL)
            ahead = [ticket.expected_s for ticket in self._queue if self._queue.line(ticket, now) <= line]
            wait = self._wait_s(ahead, own, now)
        return Load(free, len(self._grants), len(self._queue), wait)

    def waiting(self, now: float) -> list[Waiting]:
        """Who waits, next first."""
        return [
            Waiting(t.id, t.owner, Priority(self._queue.line(t, now) % Queue.OTHERS), place, now - t.arrived)
            for place, t in enumerate(self._queue.order(now), 1)
        ]

    def position(self, ticket: str, now: float) -> int:
        """The place in the queue of a ticket, 1 for the next; 0 for one that does not wait."""
        if ticket not in self._queue:
            return 0
        return next(place for place, other in enumerate(self._queue.order(now), 1) if other.id == ticket)

    def places(self, now: float) -> dict[str, int]:
        """The place in the queue of every ticket that waits, 1 for the next."""
        return {ticket.id: place for place, ticket in enumerate(self._queue.order(now), 1)}

    @property
    def queue_bound(self) -> int:
        """Tickets that may wait: twice the slots, at least the configured number."""
        return max(self._queue_min, 2 * self._slots)

    @property
    def open_slots(self) -> int:
        """Slots that others than the owner may hold together: one at least, where there is one."""
        return max(min(1, self._slots), self._slots - self._reserved)

    @property
    def owners(self) -> int:
        """Accounts kept of owners who wait, run or owe."""
        return self._queue.owners

    @property
    def _reserved(self) -> int:
        return self._terms.reserved if self._terms.first and self._terms.owner is not None else 0

    def _own(self, owner: str) -> bool:
        return owner == self._terms.owner

    def _line(self, *, own: bool, priority: Priority) -> int:
        return Queue.first_line(own=own and self._terms.first, priority=priority)

    def _ask(self, ask: Ask, now: float) -> list[Command]:
        if ask.ticket in self._grants or ask.ticket in self._queue:
            raise ValueError(f"ticket {ask.ticket!r} is in use")
        own = self._own(ask.owner)
        if self._terms.takes and not self._welcome(own):
            return [self._turned_away(ask.ticket)]
        expected_s = ask.expected_s if ask.expected_s > 0 else self._holds.expected_s(ask.owner)
        if self._has_slot(own) and not self._queue and now < ask.deadline:
            return [self._grant(ask.ticket, _Grant(own, ask.owner, expected_s, now, waited=False, model=ask.model))]
        if ask.at_once:
            return [Refused(ask.ticket, "busy", _retry(self.snapshot(now, own=own).expected_wait_s))]
        self._arrivals += 1
        first = own and self._terms.first
        ticket = Ticket(
            ask.ticket, ask.priority, ask.owner, ask.deadline, max(expected_s, LEAST_S), now, self._arrivals, first,
            ask.model,
        )  # fmt: skip
        if first and self._has_slot(own):
            # Others wait, for slots that are not theirs: this one does not, and _fill grants it at once.
            self._queue.push(ticket, now, self._holds.usual_s)
            return []
        return self._line_up(ticket, own, now)

    def _line_up(self, ticket: Ticket, own: bool, now: float) -> list[Command]:
        """Let a ticket wait, or say why not."""
        quantum_s = self._holds.usual_s
        other = None
        if len(self._queue) >= self.queue_bound:
            other = self._queue.gives_way(self._line(own=own, priority=ticket.priority), ticket.owner, now)
            if other is None:
                return [Refused(ticket.id, "full", _retry(self._wait_s([], own, now)))]
        self._queue.push(ticket, now, quantum_s)
        before = takewhile(lambda one: one is not ticket, self._queue.order(now))
        wait = self._wait_s([one.expected_s for one in before], own, now)
        if now + wait > ticket.deadline:
            self._queue.remove(ticket.id, now)
            return [Refused(ticket.id, "deadline", _retry(now + wait - ticket.deadline))]
        if other is None:
            return []
        self._queue.remove(other.id, now)
        return [Refused(other.id, "displaced", _retry(self._wait_s([], self._own(other.owner), now)))]

    def _leave(self, ticket: str, now: float) -> None:
        grant = self._grants.pop(ticket, None)
        if grant is None:
            self._queue.remove(ticket, now)
            return
        self._foreign -= not grant.own
        self._residency.ended(grant.model)
        held_s = now - grant.since
        if grant.waited:
            self._queue.settle(grant.owner, held_s - grant.expected_s, now, self._holds.usual_s)
        self._holds.learn(grant.owner, held_s)

    def _agree(self, terms: Terms, now: float) -> list[Command]:
        """Take the owner's new terms. Who waits keeps the line it stands in, unless it is sent away."""
        self._terms = terms
        self._grants = {id_: g._replace(own=self._own(g.owner)) for id_, g in self._grants.items()}
        self._foreign = sum(not grant.own for grant in self._grants.values())
        unwelcome = [ticket for ticket in self._queue if not self._welcome(self._own(ticket.owner))]
        for ticket in unwelcome:
            self._queue.remove(ticket.id, now)
        return [self._turned_away(ticket.id) for ticket in unwelcome]

    def _welcome(self, own: bool) -> bool:
        return self._terms.takes <= (Takes.OWN if own else Takes.EVERYBODYS)

    def _turned_away(self, ticket: str) -> Refused:
        return Refused(ticket, "foreign" if self._terms.takes is Takes.OWN else "paused", 0.0)

    def _has_slot(self, own: bool) -> bool:
        return len(self._grants) < self._slots and (own or self._foreign < self.open_slots)

    def _fill(self, now: float) -> list[Command]:
        """Hand out what is free. A ticket whose deadline has passed would waste a slot."""
        commands: list[Command] = []
        quantum_s = self._holds.usual_s
        while self._has_slot(own=True):
            ticket = self._queue.pop(now, quantum_s, only_own=not self._has_slot(own=False))
            if ticket is None:
                break
            if now >= ticket.deadline:
                self._queue.settle(ticket.owner, -ticket.expected_s, now, quantum_s)
                commands.append(Refused(ticket.id, "deadline", _SHORTEST_RETRY_S))
                continue
            own = self._own(ticket.owner)
            grant = _Grant(own, ticket.owner, ticket.expected_s, now, waited=True, model=ticket.model)
            commands.append(self._grant(ticket.id, grant))
        return commands

    def _grant(self, ticket: str, grant: _Grant) -> Granted:
        self._grants[ticket] = grant
        self._residency.began(grant.model, grant.since)
        self._foreign += not grant.own
        return Granted(ticket)

    def _wait_s(self, ahead_s: list[float], own: bool, now: float) -> float:
        """What one waits before whom work of `ahead_s` goes. Without slots (the engine is starting) only the queue is
        known to be ahead."""
        held = [Held(_left_s(grant, now), grant.own) for grant in self._grants.values()]
        mine = own or not self._reserved
        return wait_s(held, ahead_s, self._slots if mine else self.open_slots, 0 if mine else self._reserved)


def _left_s(grant: _Grant, now: float) -> float:
    """What a running request still needs; one that is overdue is thought to need a quarter of its time again."""
    return max(grant.expected_s - (now - grant.since), grant.expected_s / 4)


def _retry(wait_s: float) -> float:
    """Seconds for Retry-After, within what clients honour."""
    return min(max(wait_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)
