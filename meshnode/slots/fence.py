"""Which attempt of a job may run at its server: the newest, once. Pure; requests.md §3.

An older attempt that still runs is stopped when a newer one comes, and refused when it comes late; the same attempt
joins the one that runs, or is refused once it was answered. Not for loops (routing.seen). Counterpart: dispatch.runs.
"""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[bytes, str]
"""Origin and job id."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Event: an attempt of a job came, on a stream known as `ticket`."""

    ticket: int
    key: Key
    attempt: int


@dataclass(frozen=True, slots=True)
class Left:
    """Event: what ran as `ticket` is over. `answered`: its answer, or an error, was told to the end; what was cut
    instead may come again. Twice does no harm."""

    ticket: int
    answered: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Command: the attempt that arrived runs."""


@dataclass(frozen=True, slots=True)
class Join:
    """Command: the attempt that arrived gets the answer of `ticket`, which is the same and runs."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Command: cancel what runs as `ticket`: a newer attempt is here."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Command: the attempt that arrived is not served."""

    reason: str


Command = Run | Join | Stop | Refuse


@dataclass(slots=True)
class _Known:
    attempt: int
    at: float
    ticket: int | None = None
    answered: bool = False


class Fence:
    """Remembers at most `limit` jobs, for `age_s` seconds after their last attempt came; the oldest go first. Those
    that run are remembered however many they are: links bound them."""

    def __init__(self, limit: int, age_s: float) -> None:
        self._limit = limit
        self._age_s = age_s
        self._known: dict[Key, _Known] = {}
        self._running: dict[int, Key] = {}

    def handle(self, event: Arrived | Left, now: float) -> list[Command]:
        """Take one event; what becomes of the attempt that arrived is the last command."""
        match event:
            case Arrived():
                self._forget(now)
                return self._arrived(event, now)
            case Left(ticket, answered):
                key = self._running.pop(ticket, None)
                known = self._known.get(key) if key is not None else None
                if known is not None and known.ticket == ticket:
                    known.ticket, known.answered = None, answered
        return []

    def next_wakeup(self) -> None:
        """Never: what is old is forgotten when something new comes."""
        return

    def _arrived(self, event: Arrived, now: float) -> list[Command]:
        known = self._known.get(event.key)
        if known is not None and event.attempt < known.attempt:
            return [Refuse("a newer attempt of the job has been here")]
        if known is not None and event.attempt == known.attempt:
            if known.ticket is not None:
                return [Join(known.ticket)]
            if known.answered:
                return [Refuse("this attempt of the job has been here before, and was answered")]
        stopped: list[Command] = [Stop(known.ticket)] if known is not None and known.ticket is not None else []
        # Anew, so that the youngest stand last.
        self._known.pop(event.key, None)
        self._known[event.key] = _Known(event.attempt, now, event.ticket)
        self._running[event.ticket] = event.key
        return [*stopped, Run()]

    def _forget(self, now: float) -> None:
        while self._known:
            key, known = next(iter(self._known.items()))
            if len(self._known) < self._limit + len(self._running) and now - known.at < self._age_s:
                return
            if known.ticket is not None:
                if len(self._known) < self._limit + len(self._running):
                    return
                # It runs: as if it were young.
                known.at = now
                self._known[key] = self._known.pop(key)
                continue
            del self._known[key]

    def __len__(self) -> int:
        return len(self._known)
