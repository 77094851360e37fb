"""The shell that listens to engines: whoever waits for the first word of one that has gone mute is told.

One task looks at all of them, when the first answer could be overdue; every decision is the machine's (slots.mute).
Counterparts: local.py, whose requests wait here, and gate.py, which sends others away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import inf
from types import TracebackType

import trio

from meshnode.config.engine import EngineSection
from meshnode.observe import log
from meshnode.slots.mute import Mute

logger = log.get("dispatch")

Tell = Callable[[], None]


class Waiting:
    """One request at an engine, from its place in the queue to its first word. Leave it as a context, however it
    ends."""

    __slots__ = ("_ear", "_key")

    def __init__(self, ear: Ear, key: int) -> None:
        self._ear = ear
        self._key = key

    def asked(self, work_s: float | None, *, streams: bool) -> None:
        """The engine was sent it; `work_s` is what its first token usually takes, None if unknown."""
        self._ear.asked(self._key, work_s, streams=streams)

    def said(self) -> None:
        """The engine begins to answer."""
        self._ear.said(self._key)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ear.left(self._key)


class Ear:
    """One engine's. `fell_mute` is told before whoever waits is."""

    def __init__(self, name: str, machine: Mute, fell_mute: Tell, arm: Callable[[float], None]) -> None:
        self._name = name
        self._machine = machine
        self._fell_mute = fell_mute
        self._arm = arm
        self._keys = itertools.count(1)
        self._tell: dict[int, Tell] = {}

    def wait(self, tell: Tell | None) -> Waiting:
        """A request is here for the engine; `tell` is called if that says nothing for too long."""
        key = next(self._keys)
        if tell is not None:
            self._tell[key] = tell
        return Waiting(self, key)

    def asked(self, key: int, work_s: float | None, *, streams: bool) -> None:
        """See Waiting."""
        self._arm(self._machine.asked(key, work_s, trio.current_time(), streams=streams))

    def said(self, key: int) -> None:
        """See Waiting."""
        self._machine.said(key)

    def left(self, key: int) -> None:
        """See Waiting."""
        self._machine.left(key)
        self._tell.pop(key, None)

    @property
    def due(self) -> float:
        """When to look."""
        return self._machine.due

    def look(self) -> None:
        """It may be mute."""
        if not self._machine.look(trio.current_time()):
            return
        logger.warning("an engine says nothing", engine=self._name, waiting=len(self._tell))
        self._fell_mute()
        # Each is told once; who is told may leave at once.
        told, self._tell = self._tell, {}
        for tell in told.values():
            tell()


class Ears:
    """All of one node's. `run` for its life; without it nobody is told."""

    def __init__(self, section: EngineSection) -> None:
        self._section = section
        self._ears: list[Ear] = []
        self._armed = inf
        self._sooner = trio.Event()

    def of(self, name: str, fell_mute: Tell) -> Ear:
        """One more engine's."""
        machine = Mute(self._section.mute_factor, self._section.mute_s)
        self._ears.append(Ear(name, machine, fell_mute, self._arm))
        return self._ears[-1]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look in time. Returns only by cancellation."""
        task_status.started()
        while True:
            self._armed, self._sooner = min((ear.due for ear in self._ears), default=inf), trio.Event()
            with trio.move_on_at(self._armed):
                await self._sooner.wait()
            for ear in self._ears:
                ear.look()

    def _arm(self, due: float) -> None:
        if due < self._armed:
            self._armed = due
            self._sooner.set()
