"""Section `sharing`: what this machine gives to others, and what it keeps for its owner. requests.md §2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from meshnode.config.types import Seconds, Whole

_DAY = "(mon|tue|wed|thu|fri|sat|sun)"
_TIME = "(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
Period = Annotated[
    str,
    Meta(
        pattern=rf"^({_DAY}(-{_DAY})? )?{_TIME}-{_TIME}( (own|nobody))?$",
        description="a period such as 'mon-fri 09:00-18:00' or '22:00-06:00 nobody'",
    ),
]


@dataclass(frozen=True, slots=True)
class SharingSection:
    # Whether the requests of others are taken at all; off: "my machines only for my requests".
    foreign: bool = True
    # Slots of each engine that others never hold, so that an owner who is at the machine finds one free: one is enough
    # for a person. Where the machine has no owner there are none, and the last slot is everybody's.
    reserved_slots: Whole = 1
    # When only the owner's requests are taken, in local time: "mon-fri 09:00-18:00"; "22:00-06:00 nobody" refuses those
    # too.
    schedule: tuple[Period, ...] = ()
    # Waiting this long lifts a request by one tier: a low one passes new high ones after a minute.
    ageing_s: Seconds = 30.0
