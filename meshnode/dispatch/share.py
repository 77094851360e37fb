"""Whose requests this machine takes now, and whose machine it is: a clock and the owner's hand around slots.sharing.

Not for refusing anybody (slots.admission) nor for telling the mesh (description.py). Counterpart: local.py, which hands
the terms to every engine's admission.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from meshnode.config.sharing import SharingSection
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.owner import is_owner
from meshnode.model.takes import Takes
from meshnode.slots.admission_events import Terms
from meshnode.slots.owners import account_of, machine_account
from meshnode.slots.sharing import read_period, takes_at

MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """Who this node is in its mesh. `owner` is its owner as its certificate says, `vouched` that of another node as its
    certificate says; "" for nobody's."""

    me: NodeId
    owner: Callable[[], str]
    vouched: Callable[[NodeId], str]


class Share:
    """`terms()` is what holds now; `changed` is called when it became something else.

    `wall` gives local time. A pause lasts until it is lifted; `paused` is one of an earlier run (keep.pause).
    """

    def __init__(
        self,
        section: SharingSection,
        standing: Standing,
        wall: Callable[[], time.struct_time] = time.localtime,
        paused: Takes = Takes.EVERYBODYS,
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._section = section
        self._standing = standing
        self._wall = wall
        self._periods = tuple(read_period(text) for text in section.schedule)
        self._paused = paused
        self._owner = standing.owner()
        self._spoken = _spoken(self._owner)
        self._terms = self._agreed()

    @property
    def takes(self) -> Takes:
        """Whose requests are taken now."""
        return self._terms.takes

    @property
    def paused(self) -> Takes:
        """Whose requests the owner's hand lets in, whatever settings and schedule say."""
        return self._paused

    @property
    def owner(self) -> str:
        """Whose machine this is, in whose name it asks; "" for nobody's, and for a name that no header can carry."""
        self.terms()
        return self._spoken

    @property
    def ageing_s(self) -> float:
        """Waiting that lifts a request by one tier."""
        return self._section.ageing_s

    def terms(self) -> Terms:
        """What admission is to hold to now. The same object until it changes."""
        owner = self._standing.owner()
        if owner != self._owner:
            # Another mesh, or another certificate.
            self._owner, self._spoken = owner, _spoken(owner)
            self._terms = self._agreed()
        return self._terms

    def account(self, job: Job) -> str:
        """Whose a job is, as far as it can be believed."""
        terms = self.terms()
        if not job.path and job.origin == self._standing.me and job.owner in ("", self._owner):
            # Nearly all that this node's own clients ask.
            return terms.owner or ""
        return account_of(job, self._owner, self._standing.vouched)

    def pause(self, *, foreign_only: bool) -> None:
        """Take nobody's requests, or only the owner's, until `resume`."""
        self._paused = Takes.OWN if foreign_only else Takes.NOBODYS
        self.review()

    def resume(self) -> None:
        """Lift a pause; settings and schedule still hold."""
        self._paused = Takes.EVERYBODYS
        self.review()

    def review(self) -> None:
        """Look at the clock and the owner's word again."""
        terms = self._agreed()
        if terms != self._terms:
            self._terms = terms
            self.changed()

    async def run(self) -> None:
        """Follow the schedule, minute by minute, so that a clock that is set is followed too."""
        while self._periods:
            await trio.sleep(MINUTE_S - min(self._wall().tm_sec, MINUTE_S - 1))
            self.review()
        await trio.sleep_forever()

    def status(self) -> dict[str, Any]:
        """For people: what is taken, and what of it a hand, the settings and the clock do."""
        return {
            "takes": _WORDS[self.terms().takes],
            "paused": _WORDS[self._paused] if self._paused else None,
            "foreign": self._section.foreign,
            "schedule": list(self._section.schedule),
            "reserved_slots": self._terms.reserved if self._terms.first else 0,
        }

    def _agreed(self) -> Terms:
        wall = self._wall()
        standing = (self._paused, Takes.EVERYBODYS if self._section.foreign else Takes.OWN)
        return Terms(
            owner=machine_account(self._owner, self._standing.me),
            # A machine that is nobody's in particular serves all alike.
            first=bool(self._owner),
            reserved=self._section.reserved_slots,
            takes=takes_at(standing, self._periods, wall.tm_wday, wall.tm_hour * 60 + wall.tm_min),
        )


def _spoken(owner: str) -> str:
    return owner if is_owner(owner) else ""


_WORDS = {Takes.EVERYBODYS: "all", Takes.OWN: "own", Takes.NOBODYS: "none"}
