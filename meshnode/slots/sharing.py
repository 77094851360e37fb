"""Whose requests this machine takes: its owner's word, by hand and by the clock. Pure; the time is handed in.

Counterpart: dispatch.share, which has a clock and tells admission and the mesh. Not for who owns what (owners.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshnode.model.takes import Takes

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_PERIOD = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d\d):(\d\d) *- *(\d\d):(\d\d)(?: +(own|nobody))?")
_WORDS = {None: Takes.OWN, "own": Takes.OWN, "nobody": Takes.NOBODYS}


@dataclass(frozen=True, slots=True)
class Period:
    """From `begins` to `ends`, minutes of local time, on each of `days` (0 is Monday). One that ends before it begins
    ends on the day after."""

    days: frozenset[int]
    begins: int
    ends: int
    takes: Takes

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether a minute of a day lies in it; its end does not."""
        if self.begins < self.ends:
            return weekday in self.days and self.begins <= minute < self.ends
        late = weekday in self.days and minute >= self.begins
        return late or ((weekday - 1) % len(_DAYS) in self.days and minute < self.ends)


def read_period(text: str) -> Period:
    """Read `mon-fri 09:00-18:00`: days (every day where none is given), times, and who is still served: `own` (as a
    rule) or `nobody`. Raises ValueError."""
    found = _PERIOD.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no period such as 'mon-fri 09:00-18:00' or 'sat 22:00-06:00 nobody'")
    first, last, *times, word = found.groups()
    hours_minutes = [int(part) for part in times]
    begins, ends = (hours_minutes[0] * 60 + hours_minutes[1], hours_minutes[2] * 60 + hours_minutes[3])
    if begins >= _DAY_MINUTES or ends > _DAY_MINUTES or max(hours_minutes[1], hours_minutes[3]) > 59:
        raise ValueError(f"{text!r} has a time that no day has")
    return Period(_days(first, last, text), begins, ends, _WORDS[word])


def takes_at(standing: Iterable[Takes], periods: Iterable[Period], weekday: int, minute: int) -> Takes:
    """The strictest of what holds anyway and of the periods that cover this minute of local time."""
    covering = (period.takes for period in periods if period.covers(weekday, minute))
    return max((*standing, *covering), default=Takes.EVERYBODYS)


def _days(first: str | None, last: str | None, text: str) -> frozenset[int]:
    if first is None:
        return frozenset(range(len(_DAYS)))
    if first not in _DAYS or (last is not None and last not in _DAYS):
        raise ValueError(f"{text!r} has a day that is none of {', '.join(_DAYS)}")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return frozenset((begin + step) % len(_DAYS) for step in range((end - begin) % len(_DAYS) + 1))
