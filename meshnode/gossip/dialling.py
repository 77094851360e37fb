"""What of the book may be dialled now, when the rest falls due, and what an answer or a failure means for it. Pure.

Not for whom to want (learning.py, views.py) nor for links (overlay.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.gossip.asking import Asking
from meshnode.gossip.backoff import Storm
from meshnode.gossip.book import Book
from meshnode.gossip.candidates import is_loopback
from meshnode.gossip.flights import Flights, Ready
from meshnode.gossip.hints import HINT_S, TRIES, Hints
from meshnode.gossip.learning import Learning
from meshnode.gossip.neighbourhood import Neighbourhood
from meshnode.gossip.overlay_events import AskToDial, Command
from meshnode.gossip.quarantine import Quarantine
from meshnode.gossip.targets import DAY_S, Key, Kind, Target
from meshnode.model.ids import NodeId

ASK_AFTER = 2
"""Failed dials after which a peer that has addresses is asked to dial, too."""

GIVE_UP = 2
"""Failed dials after which another node is chosen."""


@dataclass(slots=True)
class Dialling:
    """Works on the book's targets; whoever is linked, in quarantine or being dialled is left alone."""

    section: MeshSection
    rng: random.Random
    book: Book
    near: Neighbourhood
    learning: Learning
    flights: Flights = field(init=False)
    asking: Asking = field(init=False)
    hints: Hints = field(init=False)
    quarantine: Quarantine = field(init=False)
    storm: Storm = field(init=False)

    def __post_init__(self) -> None:
        section = self.section
        self.flights = Flights(section.dials)
        self.asking = Asking(self.rng)
        self.hints = Hints(section)
        self.quarantine = Quarantine(section.quarantine_s, section.quarantine_max_s)
        self.storm = Storm(section.dials, section.redial_min_s, section.redial_max_s)

    def begin(self, now: float) -> list[Command]:
        """The dials to start now, and whom to ask for one."""
        commands: list[Command] = [*self.flights.start(self._ready(now))]
        if (asked := self.asking.choose(self._blocked(now), now)) is not None:
            commands.append(AskToDial(asked))
        return commands

    def dues(self) -> Iterator[float | None]:
        """When something that is not under way may be dialled, or asked for."""
        yield from (self._due(key, target) for key, target in self.book.targets.items() if self._wanted(key))
        yield self.asking.next_due()

    def barred(self, peer: NodeId, now: float) -> bool:
        """Whether `peer` is in quarantine."""
        return self.quarantine.until(peer) > now

    def hear(self, address: str, now: float) -> bool:
        """Take a hint, if it is to be tried; whether it is."""
        targets = self.book.targets
        held = targets.get(address)
        if held is not None and held.kind is Kind.HINT:
            held.until = now + HINT_S
        if held is not None or not self.section.dial_learned or not self.hints.admit(address, now):
            return False
        if self.book.tells_of(address) or not self._place_for_hint():
            return False
        targets[address] = Target(Kind.HINT, (address,), now, until=now + HINT_S)
        return True

    def landed(self, key: Key, peer: NodeId) -> None:
        """A dial found `peer`."""
        self.flights.landed(key)
        self._answered(key, peer)

    def failed(self, key: Key, peer: NodeId | None, now: float) -> None:
        """A dial ended in no link; `peer`: whoever was found all the same."""
        self.flights.landed(key)
        target = self.book.targets.get(key)
        if target is None:
            return
        target.wait(self.rng, self.section, now)
        if target.kind is Kind.HOPED and target.until is None:
            target.until = now + DAY_S
        self._give_up(key, target, now)
        if isinstance(key, str) and target.kind is Kind.HINT and target.failures >= TRIES:
            self.hints.gave_up(key, now)
            self.book.drop(key)
        elif target.once:
            self.book.drop(key)
        elif peer is not None:
            self._answered(key, peer)

    def hurry(self, now: float) -> None:
        """There is no link at all: named peers that were left in peace are so no more."""
        for key in self.book.of_kind(Kind.NAMED):
            target = self.book.targets[key]
            if target.due > now + self.section.redial_max_s:
                target.due = now + self.storm.delay_s(self.rng)

    def redial(self, now: float) -> None:
        """This machine is somewhere else now: whatever was in vain there is tried anew."""
        self.hints.forgive()
        self.asking.anew()
        waiting = [target for key, target in self.book.targets.items() if self._wanted(key)]
        for target in waiting:
            target.failures, target.due = 0, now + self.storm.delay_s(self.rng, len(waiting))

    def expire(self, now: float) -> None:
        """Drop what has been tried for long enough."""
        for key, target in list(self.book.targets.items()):
            over = target.until is not None and target.until <= now
            if over and key not in self.flights and self.book.peer(key) not in self.near.linked:
                self.book.drop(key)

    def _ready(self, now: float) -> Iterator[Ready]:
        for key, target in self.book.targets.items():
            if target.due <= now and self._wanted(key) and self._due(key, target) <= now:
                where = self.book.addresses(key)
                yield Ready(self._due(key, target), key, target.kind, self.book.peer(key), where)

    def _blocked(self, now: float) -> Iterator[NodeId]:
        """Nodes that this one cannot dial, and that could dial it."""
        own = self.book.adverts.get(self.book.me)
        if own is None or not self.near.linked:
            return
        anywhere = any(not is_loopback(address) for address in own.addresses)
        for key, target in self.book.targets.items():
            if not isinstance(key, NodeId) or target.kind is not Kind.KNOWN or key in self.near.linked:
                continue
            hopeless = target.failures >= ASK_AFTER or not self.book.where(key)
            if hopeless and not self.barred(key, now) and (anywhere or (target.near and own.addresses)):
                yield key

    def _wanted(self, key: Key) -> bool:
        peer = self.book.peer(key)
        return key not in self.flights and peer != self.book.me and peer not in self.near.linked

    def _due(self, key: Key, target: Target) -> float:
        return max(target.due, self.quarantine.until(self.book.peer(key)))

    def _give_up(self, key: Key, target: Target, now: float) -> None:
        """Another is chosen instead of one that cannot be dialled."""
        if isinstance(key, NodeId) and key in self.near.views.chosen and target.failures >= GIVE_UP:
            self.near.views.failed(key, now)
            target.once = target.kind is Kind.KNOWN and key not in self.near.heat

    def _answered(self, key: Key, peer: NodeId) -> None:
        """`peer` was found at a target. A hint that led to a known one has done its work."""
        target = self.book.targets.get(key)
        if target is not None and isinstance(key, str):
            if target.kind is Kind.HINT and self.learning.knows(peer):
                self.book.drop(key)
            else:
                self.book.behind[key] = peer

    def _place_for_hint(self) -> bool:
        """Whether there is room for one more hint; if not, the one that failed most makes it."""
        hints = self.book.of_kind(Kind.HINT)
        if len(hints) < self.section.hints:
            return True
        failures, key = max((self.book.targets[key].failures, str(key)) for key in hints)
        if failures:
            self.book.drop(key)
        return failures > 0
