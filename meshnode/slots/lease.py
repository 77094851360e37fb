"""Leases on jobs that were sent to other nodes, and signs of life of jobs that came from them. Pure; requests.md §3.

A job that nothing is heard of for LEASE_S is lost, and whoever sent it goes elsewhere; so whoever works at one says so
each BEAT_S in which it says nothing else, and each FIRST_BEAT_S until its answer begins: until then another server can
be asked besides (`Quiet`). All are the protocol's and no settings, since both ends must agree. Frames are no events:
the shell (dispatch.leases) looks each LOOK_S at what came and went. Not for attempts (fence.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

LEASE_S = 15.0
"""Three signs of life may be late or lost before the job is."""

BEAT_S = 5.0
LOOK_S = 0.5

FIRST_BEAT_S = 1.0
"""Until there is an answer. 20 bytes."""

QUIET_LOOKS = 5
"""Looks in a row with nothing heard: two signs of life are late or lost. Counted in looks, so that a node which stood
still itself, and looked once, doubts nobody."""

STILL_S = 3.0
"""A node that did not look for so long stood still itself (stopped, swapped out): it heard nobody."""


@dataclass(frozen=True, slots=True)
class Took:
    """Event: a job was sent, known as `key` from now on."""

    key: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Event: something came of the job since the last look."""

    key: int


@dataclass(frozen=True, slots=True)
class Gave:
    """Event: the job is over. Twice does no harm."""

    key: int


@dataclass(frozen=True, slots=True)
class Look:
    """Event: it is `next_wakeup()`, and what was heard and said has been told."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Command: nothing was heard of the job for LEASE_S. It is forgotten: cancel it."""

    key: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """Command: nothing was heard of the job for QUIET_LOOKS. It is kept: doubt it."""

    key: int


class Leases:
    """What this node has sent. A job expires once at most, and only while it is held."""

    def __init__(self) -> None:
        self._heard_at: dict[int, float] = {}
        self._silent: dict[int, int] = {}
        self._looked_at = 0.0

    def handle(self, event: Took | Heard | Gave | Look, now: float) -> list[Expired | Quiet]:
        """Take one event. Raises ValueError for a key that is in use."""
        match event:
            case Took(key):
                if key in self._heard_at:
                    raise ValueError(f"job {key} has a lease")
                if not self._heard_at:
                    self._looked_at = now
                self._heard_at[key] = now
                self._silent[key] = 0
            case Heard(key):
                if key in self._heard_at:
                    self._heard_at[key] = now
                    self._silent[key] = -1
            case Gave(key):
                self._heard_at.pop(key, None)
                self._silent.pop(key, None)
            case Look():
                return self._look(now)
        return []

    def next_wakeup(self) -> float | None:
        """When to look; None while nothing is held."""
        return self._looked_at + LOOK_S if self._heard_at else None

    def _look(self, now: float) -> list[Expired | Quiet]:
        still_s = now - self._looked_at - LOOK_S
        self._looked_at = now
        if still_s > STILL_S:
            self._heard_at = dict.fromkeys(self._heard_at, now)
        over = [key for key, at in self._heard_at.items() if now - at >= LEASE_S]
        for key in over:
            del self._heard_at[key], self._silent[key]
        return [*self._quiet(), *(Expired(key) for key in over)]

    def _quiet(self) -> list[Quiet]:
        quiet = []
        for key, looks in self._silent.items():
            self._silent[key] = looks + 1
            if looks + 1 == QUIET_LOOKS:
                quiet.append(Quiet(key))
        return quiet

    def __len__(self) -> int:
        return len(self._heard_at)


@dataclass(frozen=True, slots=True)
class Began:
    """Event: a job came, known as `key`. Once it has said something it may be silent for `silence_s`."""

    key: int
    silence_s: float = inf


@dataclass(frozen=True, slots=True)
class PassedOn:
    """Event: the job went on to another node; from now on it lives as long as that node says so (`Alive`)."""

    key: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Event: something was heard of a job that was passed on."""

    key: int


@dataclass(frozen=True, slots=True)
class Said:
    """Event: bytes of its answer were sent since the last look."""

    key: int


@dataclass(frozen=True, slots=True)
class Done:
    """Event: the job is over. Twice does no harm."""

    key: int


@dataclass(frozen=True, slots=True)
class Beat:
    """Command: give a sign of life of this job."""

    key: int


@dataclass(frozen=True, slots=True)
class Silent:
    """Command: the answer began and then said nothing for longer than it may. Told once."""

    key: int


@dataclass(slots=True)
class _Job:
    silence_s: float
    quiet_since: float
    said_at: float | None = None
    own: bool = True
    alive: bool = True


class Beats:
    """What this node works at for others."""

    def __init__(self) -> None:
        self._jobs: dict[int, _Job] = {}
        self._looked_at = 0.0

    def handle(self, event: Began | PassedOn | Alive | Said | Done | Look, now: float) -> list[Beat | Silent]:
        """Take one event. Raises ValueError for a key that is in use."""
        match event:
            case Began(key, silence_s):
                if key in self._jobs:
                    raise ValueError(f"job {key} is known")
                if not self._jobs:
                    self._looked_at = now
                self._jobs[key] = _Job(silence_s, now)
            case Look():
                self._looked_at = now
                return [command for key, job in self._jobs.items() for command in self._due(key, job, now)]
            case Done(key):
                self._jobs.pop(key, None)
            case _:
                self._told(event, now)
        return []

    def next_wakeup(self) -> float | None:
        """When to look; None while there is nothing to do."""
        return self._looked_at + LOOK_S if self._jobs else None

    def _told(self, event: PassedOn | Alive | Said, now: float) -> None:
        job = self._jobs.get(event.key)
        if job is None:
            return
        match event:
            case PassedOn():
                job.own = job.alive = False
            case Alive():
                job.alive = True
            case Said():
                job.said_at = job.quiet_since = now

    def _due(self, key: int, job: _Job, now: float) -> list[Beat | Silent]:
        if job.said_at is not None and now - job.said_at > job.silence_s:
            job.silence_s = inf
            return [Silent(key)]
        every_s = FIRST_BEAT_S if job.said_at is None else BEAT_S
        # Looks come a little more or less than LOOK_S apart.
        if now - job.quiet_since < every_s - LOOK_S / 2 or not (job.own or job.alive):
            return []
        job.quiet_since, job.alive = now, False
        return [Beat(key)]

    def __len__(self) -> int:
        return len(self._jobs)
