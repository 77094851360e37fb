"""The course of one request until its first byte: who is asked, who is asked besides, who again, and who has won. Pure.

Events in, commands out. Each request ends in one `Win` or one `Lose`; after it nobody is asked. Not for which server is
next (course.py) nor for asking (chase.py), which performs what is commanded here. requests.md §3.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from random import Random

from meshnode.dispatch.course import Course
from meshnode.dispatch.doubt import DoubtAfter
from meshnode.dispatch.pursuit_events import (
    Answered,
    Begin,
    Command,
    Drop,
    Event,
    Failed,
    Fault,
    Lose,
    Mute,
    Quiet,
    Role,
    Try,
    Why,
    Win,
    Woke,
)
from meshnode.model.ids import NodeId
from meshnode.routing import Attempt
from meshnode.routing.budget import Budgets

_ONE_BY_ONE = (Role.FIRST, Role.RETRY, Role.DOUBT)

AGAIN = 0.5
"""Whoever is asked because others said nothing is given this share of the usual time to answer: its user has waited
already, and would wait the whole of it once more for each server that hangs."""

AGAIN_S = 1.0
"""Where too much is being retried for a doubt, it is looked at again after this long."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`at_once` servers are raced; `late_s` says after how long a server is later than usual (None: unknown, or the
    request may not be hedged); `load` how busy the servers are, of which `hedge_load` forbids hedging;
    `at_once_of` whether a server may be asked for a slot at once or a refusal; `patience` after how long without an
    answer a server may hang, so that another is asked besides (None: never), and `hang_s` from when on that counts
    against it; `spare` whether any server seems to have a slot that was not asked; without `besides` no second server
    is told of the request while one may still answer it."""

    at_once: int
    late_s: Callable[[Attempt], float | None]
    load: Callable[[], float]
    hedge_load: float
    backoff_s: float
    at_once_of: Callable[[Attempt], bool] = lambda _: False
    patience: Callable[[Attempt, float], DoubtAfter | None] = lambda _attempt, _now: None
    hang_s: float = 0.0
    spare: Callable[[Set[NodeId]], bool] = lambda _: True
    besides: bool = True


class Pursuit:
    """The machine of one request. `course` gives the servers in turn and bounds the attempts; the budgets are those of
    the whole node. `hung` are those that said nothing for so long that it counts against them if another answers."""

    def __init__(self, course: Course, rules: Rules, budgets: Budgets, rng: Random) -> None:
        self._course = course
        self._rules = rules
        self._retries, self._hedges, self._doubts = budgets
        self._rng = rng
        self._running: dict[int, Attempt] = {}
        self._asked: set[tuple[NodeId, ...]] = set()
        self._next: Attempt | None = None
        self._retry_at: float | None = None
        self._hedge_at: float | None = None
        self._doubt_at: float | None = None
        self._busy_until = 0.0
        self._full = 0
        self._fault: Fault | None = None
        self._lent: dict[int, int] = {}
        self._asked_at: dict[int, float] = {}
        self._doubted: set[int] = set()
        self.hung: set[int] = set()
        self.made = 0
        self.raced = 0
        self.hedged = False
        self.ended = False

    def next_wakeup(self) -> float | None:
        """When to tell that it `Woke`."""
        if self._retry_at is not None:
            return self._retry_at
        if self._hedge_at is None or self._doubt_at is None:
            return self._hedge_at if self._doubt_at is None else self._doubt_at
        return min(self._hedge_at, self._doubt_at)

    def handle(self, event: Event, now: float) -> list[Command]:
        """What is to be done. Events that come after the end, or of an attempt that is over, change nothing."""
        if self.ended:
            return []
        match event:
            case Begin():
                return self._begin(now)
            case Answered(number):
                return self._answered(number)
            case Failed():
                return self._failed(event, now)
            case Quiet(number):
                return self._quiet(number, now)
            case Mute(number):
                return self._mute(number, now)
            case Woke():
                return self._woke(now)

    def _begin(self, now: float) -> list[Command]:
        self._retries.request(now)
        self._doubts.request(now)
        self._hedges.request()
        tries: list[Command] = []
        racing = self._rules.at_once > 1
        while len(tries) < self._rules.at_once and (attempt := self._course.next()) is not None:
            tries.append(self._try(attempt, Role.RACER if racing else Role.FIRST, now))
        if not tries:
            return self._lose(Why.NOBODY)
        self.raced = len(tries)
        # Looked at first of all, because it is nearly always spent, and a timer costs.
        if not racing and self._hedges.left():
            late_s = self._rules.late_s(self._running[1])
            self._hedge_at = now + late_s if late_s is not None else None
        return tries

    def _answered(self, number: int) -> list[Command]:
        if self._running.pop(number, None) is None:
            return []
        losers = list(self._running)
        self._end()
        return [*(Drop(loser) for loser in losers), Win(number)]

    def _failed(self, event: Failed, now: float) -> list[Command]:
        attempt = self._running.pop(event.number, None)
        if attempt is None:
            return []
        self._hedge_at = None
        if not self._running.keys() - self._doubted:
            self._doubt_at = None
        lent = self._lent.pop(event.number, None)
        if event.fault is Fault.FULL:
            if lent is None:
                self._full += 1
            else:
                self._course.redirected(attempt)
        if self._fault is not Fault.FINAL:
            self._fault = event.fault
        if event.fault is not Fault.FINAL:
            self._course.failed(attempt, cut=event.cut)
        waits = self._running.keys() - self._doubted
        if not waits and self._fault is not Fault.FINAL:
            return self._again(now, lent)
        self._put_back(lent)
        return [] if waits else self._lose(Why.FINAL)

    def _put_back(self, lent: int | None) -> None:
        """A retry that was set aside is not needed."""
        if lent is not None:
            self._retries.give_back(lent)

    def _again(self, now: float, lent: int | None) -> list[Command]:
        attempt = self._course.next() or (None if self._running else self._course.after_all())
        if attempt is None:
            self._put_back(lent)
            return self._lose(Why.NOBODY) if not self._running else []
        if lent is None and not self._retries.spend(now):
            if not self._running:
                return self._lose(Why.BUDGET)
            self._doubt_at = now + AGAIN_S
            return []
        # The same server by another way is not: what it was asked went down with a relay.
        hammered = attempt.path in self._asked or (self._full > 1 and self._full == self.made)
        if not hammered:
            return [self._try(attempt, Role.RETRY, now)]
        doubled_s = self._rules.backoff_s * 2 ** (self.made - 1)
        self._next, self._retry_at = attempt, now + doubled_s * (0.5 + self._rng.random())
        return []

    def _woke(self, now: float) -> list[Command]:
        if self._retry_at is not None and now >= self._retry_at and self._next is not None:
            attempt, self._next, self._retry_at = self._next, None, None
            return [self._try(attempt, Role.RETRY, now)]
        if self._doubt_at is not None and now >= self._doubt_at:
            self.hung |= {n for n in self._running if now - self._asked_at[n] >= self._rules.hang_s}
            if now < self._busy_until and not self._spare():
                self._doubt_at = self._busy_until
                return []
            return self._doubt(set(self._running), now)
        if self._hedge_at is None or now < self._hedge_at:
            return []
        self._hedge_at = None
        if not self._hedges.left() or self._rules.load() > self._rules.hedge_load:
            return []
        other = self._course.next()
        if other is None:
            return []
        self._hedges.spend()
        self.hedged = True
        return [self._try(other, Role.HEDGE, now)]

    def _quiet(self, number: int, now: float) -> list[Command]:
        if number not in self._running:
            return []
        self.hung.add(number)
        return self._doubt({number}, now)

    def _spare(self) -> bool:
        return self._rules.spare({path[-1] for path in self._asked})

    def _mute(self, number: int, now: float) -> list[Command]:
        """No fault of a server that says so, and no reason to ask twice while nobody has a slot to spare."""
        if number not in self._running or not self._spare():
            return []
        return self._doubt({number}, now)

    def _doubt(self, numbers: set[int], now: float) -> list[Command]:
        """These may hang. Once that is so of all that run, another is asked besides; the first answer wins."""
        self._doubted |= numbers
        if self._running.keys() - self._doubted:
            return []
        self._doubt_at = None
        if self._retry_at is not None or not self._course.more or not self._rules.besides:
            return []
        # Who says nothing will hardly refuse, which a retry was set aside for.
        for number in numbers & self._lent.keys():
            self._retries.give_back(self._lent.pop(number))
        # Where nobody has a slot to spare it is a retry like any other.
        if not (self._doubts if self._spare() else self._retries).spend(now):
            self._doubt_at = now + AGAIN_S
            return []
        other = self._course.next()
        return [self._try(other, Role.DOUBT, now)] if other is not None else []

    def _try(self, attempt: Attempt, role: Role, now: float) -> Try:
        self.made += 1
        self._running[self.made] = attempt
        self._asked_at[self.made] = now
        self._asked.add(attempt.path)
        at_once = role in _ONE_BY_ONE and self._course.may_redirect and self._rules.at_once_of(attempt)
        lent = self._retries.lend(now) if at_once else None
        if lent is not None:
            self._lent[self.made] = lent
        if self._doubt_at is None and self._course.more and role is not Role.RACER:
            self._be_patient(attempt, now)
        # In doubt even without one: it is asked because it seems to have a slot.
        return Try(self.made, attempt, role, lent is not None or (at_once and role is Role.DOUBT))

    def _be_patient(self, attempt: Attempt, now: float) -> None:
        """A server was asked; whom it joins is doubted no later for it."""
        patience = self._rules.patience(attempt, now)
        if patience is None:
            return
        self._doubt_at = now + patience.idle_s * (AGAIN if self._doubted else 1.0)
        self._busy_until = now + patience.busy_s

    def _lose(self, why: Why) -> list[Command]:
        left = list(self._running)
        self._end()
        return [*(Drop(number) for number in left), Lose(why)]

    def leave(self) -> None:
        """Nobody wants the answer any more."""
        self._end()

    def _end(self) -> None:
        self.ended = True
        for lent in self._lent.values():
            self._retries.give_back(lent)
        self._lent.clear()
        self._running.clear()
        self._retry_at = self._hedge_at = self._doubt_at = None
