"""What admission is told, what it asks for, and what it says of its load. Not for deciding (admission.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from meshnode.model.job import Priority
from meshnode.model.takes import Takes


@dataclass(frozen=True, slots=True)
class Ask:
    """Event: `ticket` wants a slot. `deadline` is on the clock of `now`; `owner` is an account that is believed;
    `expected_s` how long it will hold the slot, 0 if unknown; `at_once`: it does not want to wait; `model` by the name
    that the engine gives it. An id is used once at a time."""

    ticket: str
    deadline: float
    priority: Priority = Priority.NORMAL
    owner: str = ""
    expected_s: float = 0.0
    at_once: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Event: `ticket` is done, or no longer wants: gives back a grant or leaves the queue. Twice does no harm."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Resize:
    """Event: the engine now runs `slots` requests at once. Grants are never taken back; 0 lets everyone wait."""

    slots: int


@dataclass(frozen=True, slots=True)
class Resident:
    """Event: the engine has these models loaded, and others only once they are asked for; None: it loads none on
    request."""

    models: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Event: the terms of the machine's owner from now on. Who waits and is not welcome any more is refused; what runs
    goes on.

    `owner` is the owner's account, None for nobody's; `first` lets it go before all others and keeps `reserved` slots
    for it, but never the last one of all.
    """

    owner: str | None = None
    first: bool = False
    reserved: int = 0
    takes: Takes = Takes.EVERYBODYS


@dataclass(frozen=True, slots=True)
class Granted:
    """Command: `ticket` holds a slot until it leaves."""

    ticket: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Command: `ticket` gets no slot and is forgotten.

    `reason` is full, busy (it would not wait), deadline, displaced (by one that stands higher, or whose owner has less
    here), foreign (only the owner's are taken) or paused (nobody's are); how long the last two hold nobody knows:
    `retry_after_s` is 0.
    """

    ticket: str
    reason: str
    retry_after_s: float


Event = Ask | Leave | Resize | Resident | Terms
Command = Granted | Refused


class Load(NamedTuple):
    """Facts that travel: free and busy slots, tickets waiting, and what a newcomer would wait, in seconds."""

    free: int
    busy: int
    queued: int
    expected_wait_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A ticket that waits, for people: `position` counts from 1, next is 1; `tier` is where it stands by now."""

    ticket: str
    owner: str
    tier: Priority
    position: int
    age_s: float
