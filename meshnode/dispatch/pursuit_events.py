"""What the machine of one request is told and commands: its events, its commands, and why and how in words. Pure.

Counterparts: pursuit.py, which decides; chase.py, which tells and performs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshnode.routing import Attempt


class Role(enum.Enum):
    """Why a server is asked: as the first, with others at once, since the first is late, after others failed, or since
    those asked say nothing, and may hang."""

    FIRST = "first"
    RACER = "racer"
    HEDGE = "hedge"
    RETRY = "retry"
    DOUBT = "doubt"


class Fault(enum.Enum):
    """What came in place of an answer. FINAL is what no other server would mend."""

    BROKEN = "broken"
    FULL = "full"
    FINAL = "final"


class Why(enum.Enum):
    """Why a request was given up."""

    FINAL = "no other server would do better"
    NOBODY = "no server is left"
    BUDGET = "too many requests are being retried"


@dataclass(frozen=True, slots=True)
class Begin:
    """The request is here."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The first bytes of an attempt's answer are here."""

    number: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt ended without. `cut`: the way broke behind its first relay, which says nothing of the server."""

    number: int
    fault: Fault
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing is heard of an attempt, not even that it is worked at."""

    number: int


@dataclass(frozen=True, slots=True)
class Mute:
    """The server of an attempt says that its engine says nothing, for longer than that can take."""

    number: int


@dataclass(frozen=True, slots=True)
class Woke:
    """It is `next_wakeup()`."""


@dataclass(frozen=True, slots=True)
class Try:
    """Ask the server of `attempt`, as the `number`th, counted from 1. `at_once`: it shall refuse rather than let the
    request wait, since others may have a slot."""

    number: int
    attempt: Attempt
    role: Role
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Cancel an attempt that runs: another was quicker. It has not failed."""

    number: int


@dataclass(frozen=True, slots=True)
class Win:
    """Deliver the answer of this attempt."""

    number: int


@dataclass(frozen=True, slots=True)
class Lose:
    """End the request with an error: the first that was FINAL, else the last."""

    why: Why


Event = Begin | Answered | Failed | Quiet | Mute | Woke
Command = Try | Drop | Win | Lose
