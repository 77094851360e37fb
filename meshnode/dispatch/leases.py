"""The shell around leases and signs of life: one task looks each second at every job that was sent or that came.

A timer per job would cost more than the job's frames; streams remember that something came or went.
Every decision is the machines' (slots.lease). Counterparts: remote.py, which holds leases, and inbound.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import trio

from meshnode.errors import LeaseExpired
from meshnode.mux import CANCEL
from meshnode.slots import lease

if TYPE_CHECKING:
    from meshnode.net import LinkStream


class Signs(NamedTuple):
    """What is told of a job that was sent, until it is answered: nothing is heard of it for a while (`quiet`), its
    server's engine says nothing (`mute`), and where it waits in a queue there (`placed`, 0: no more)."""

    quiet: Callable[[], None]
    mute: Callable[[], None]
    placed: Callable[[int], None]


class Lease:
    """A job that was sent. `lost` is why it was given up, None while it was not. `signs`: see there; None where nobody
    wants to know, or no more."""

    __slots__ = ("_leases", "_place", "_signs", "key", "lost", "onward", "peer", "stream")

    def __init__(self, leases: Leases, key: int, stream: LinkStream, peer: str, onward: Served | None) -> None:
        self._leases = leases
        self.key = key
        self.stream = stream
        self.peer = peer
        self.onward = onward
        self.lost: LeaseExpired | None = None
        self._signs: Signs | None = None
        self._place = 0

    def tell(self, signs: Signs | None) -> None:
        """Whom to tell from now on. Of a job that is passed on, whoever sent it hears of a mute engine too."""
        self._signs = signs
        if self.onward is not None:
            self.stream.fell_mute = partial(self.onward.stream.beat, mute=True)
        else:
            self.stream.fell_mute = signs.mute if signs is not None else None

    def look(self) -> None:
        """Its server may have told another place."""
        if self.stream.place != self._place:
            self._place = self.stream.place
            if self._signs is not None:
                self._signs.placed(self._place)

    def fell_quiet(self) -> None:
        """Nothing was heard of it for a while."""
        if self._signs is not None:
            self._signs.quiet()

    def give(self) -> None:
        """The job is over, however it ended. Twice does no harm."""
        self._leases.give(self)


class Served:
    """A job that came, on `stream`. `fell_silent` is told when its answer says nothing for too long; `place` says where
    it waits in a queue, here or farther on."""

    __slots__ = ("fell_silent", "key", "place", "stream")

    def __init__(self, key: int, stream: LinkStream, fell_silent: Callable[[], None]) -> None:
        self.key = key
        self.stream = stream
        self.fell_silent = fell_silent
        self.place: Callable[[], int] | None = None


class Leases:
    """All of one node's. `run` for its life; nothing else here waits."""

    def __init__(self) -> None:
        self._leases = lease.Leases()
        self._beats = lease.Beats()
        self._held: dict[int, Lease] = {}
        self._served: dict[int, Served] = {}
        self._keys = itertools.count(1)
        self._idle: trio.Event | None = None

    def take(self, stream: LinkStream, peer: str, onward: Served | None = None) -> Lease:
        """A job was sent on `stream` to `peer`, which texts name; `onward`: for whom, where it is another's job."""
        held = Lease(self, next(self._keys), stream, peer, onward)
        self._held[held.key] = held
        now = trio.current_time()
        self._leases.handle(lease.Took(held.key), now)
        if onward is not None:
            onward.place = lambda: stream.place
            self._beats.handle(lease.PassedOn(onward.key), now)
        self._wake()
        return held

    def give(self, held: Lease) -> None:
        """The job is over."""
        if self._held.pop(held.key, None) is not None:
            self._leases.handle(lease.Gave(held.key), 0.0)

    def serve(self, stream: LinkStream, fell_silent: Callable[[], None], silence_s: float = inf) -> Served:
        """A job came on `stream`."""
        served = Served(next(self._keys), stream, fell_silent)
        self._served[served.key] = served
        self._beats.handle(lease.Began(served.key, silence_s), trio.current_time())
        self._wake()
        return served

    def done(self, served: Served) -> None:
        """It is over."""
        if self._served.pop(served.key, None) is not None:
            self._beats.handle(lease.Done(served.key), 0.0)

    def __len__(self) -> int:
        return len(self._held) + len(self._served)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look when the machines want it. Returns only by cancellation."""
        task_status.started()
        while True:
            wakeups = [at for at in (self._leases.next_wakeup(), self._beats.next_wakeup()) if at is not None]
            if wakeups:
                await trio.sleep_until(min(wakeups))
                self._look(trio.current_time())
            else:
                self._idle = trio.Event()
                await self._idle.wait()

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _look(self, now: float) -> None:
        for held in self._held.values():
            # What nobody has read yet is no silence of the peer's.
            if held.stream.heard or held.stream.unread:
                held.stream.heard = False
                self._leases.handle(lease.Heard(held.key), now)
                if held.onward is not None:
                    self._beats.handle(lease.Alive(held.onward.key), now)
                held.look()
        for command in self._leases.handle(lease.Look(), now):
            match command:
                case lease.Expired(key):
                    self._expire(self._held.pop(key))
                case lease.Quiet(key):
                    self._held[key].fell_quiet()
        for served in self._served.values():
            if served.stream.said:
                served.stream.said = False
                self._beats.handle(lease.Said(served.key), now)
        for due in self._beats.handle(lease.Look(), now):
            match due:
                case lease.Beat(key):
                    served = self._served[key]
                    served.stream.beat(served.place() if served.place is not None else 0)
                case lease.Silent(key):
                    self._served[key].fell_silent()

    def _expire(self, held: Lease) -> None:
        held.lost = LeaseExpired(
            f"the lease of the job at {held.peer} ran out: nothing was heard of it for {lease.LEASE_S:.0f} s; "
            f"{held.peer} or a relay on the way stands still"
        )
        held.stream.reset(CANCEL)
