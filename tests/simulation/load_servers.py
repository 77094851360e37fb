"""Servers under load, honest and lying: real admission, and service that takes the time that a request needs.

Not for who is asked (load_mesh.py, the counterpart) nor for what is asked (traffic.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshnode.dispatch.pursuit_events import Answered, Event, Failed, Fault
from meshnode.model.ids import NodeId
from meshnode.slots import Admission, Ask, Granted, Leave, Load
from tests.simulation.loop import Loop
from tests.simulation.stand_ins import node_id
from tests.simulation.traffic import Demand

if TYPE_CHECKING:
    from tests.simulation.load_mesh import Try_

CLAIMED_SLOTS = 64
HASTE_S = 0.05
"""A liar refuses, or breaks off, this long after it was asked."""

SLOWER = 20.0

LIES = ("slow", "fails", "cuts", "refuses", "claims")
"""Of a server that says it is free and cheap and has 64 slots: it is slow; fails after its 200 head; breaks off after
a first token; refuses; or answers as well as the others, with as many slots."""


@dataclass(slots=True, eq=False)
class Server:
    """A serving node. `lie`: how it lies, if it does."""

    number: int
    id: NodeId
    admission: Admission
    lie: str = ""
    held: dict[str, Try_] = field(default_factory=dict)

    def load(self, now: float) -> Load:
        """What it says."""
        return Load(CLAIMED_SLOTS, 0, 0, 0.0) if self.lie else self.admission.snapshot(now, own=False)


class Serving:
    """All servers. `told(attempt, what, load, retry_after_s)` hears what they say, half a round trip later."""

    def __init__(self, demand: Demand, loop: Loop, told: Callable[..., None]) -> None:
        self._demand, self._loop, self._told = demand, loop, told
        self.servers = [self._server(number) for number in range(demand.servers)]
        self.by_id = {server.id: server for server in self.servers}

    def arrive(self, one: Try_) -> None:
        server, request, now = one.server, one.chase.request, self._loop.now
        if server.lie in ("fails", "cuts", "refuses"):
            self._loop.after(HASTE_S, self._mistreat, one)
            return
        server.held[one.ticket] = one
        self._admit(
            server,
            Ask(
                one.ticket,
                request.at + self._demand.patience_s,
                owner=one.chase.entry.id.short,
                at_once=one.order.at_once,
            ),
            now,
        )

    def _mistreat(self, one: Try_) -> None:
        number, load = one.order.number, one.server.load(self._loop.now)
        if one.server.lie == "refuses":
            self._answer(one, Failed(number, Fault.FULL), load, 0.0)
        elif one.server.lie == "fails":
            self._answer(one, Failed(number, Fault.BROKEN), None)
        else:
            self._answer(one, Answered(number), None)
            self._loop.after(HASTE_S, self._answer, one, "cut", None)

    def _admit(self, server: Server, event: Ask | Leave, now: float) -> None:
        for command in server.admission.handle(event, now):
            one = server.held[command.ticket]
            if isinstance(command, Granted):
                slower = SLOWER if server.lie == "slow" else 1.0
                request = one.chase.request
                self._loop.after(request.prefill_s * slower, self._begun, one)
                self._loop.after(request.service_s * slower, self._done, one)
            else:
                del server.held[command.ticket]
                failed = Failed(one.order.number, Fault.FULL)
                self._answer(one, failed, server.load(now), command.retry_after_s)

    def _begun(self, one: Try_) -> None:
        if not one.over:
            self._answer(one, Answered(one.order.number), None)

    def _done(self, one: Try_) -> None:
        if not one.over:
            self.cancel(one)
            self._answer(one, "done", one.server.load(self._loop.now))

    def cancel(self, one: Try_) -> None:
        """Give back its slot or its place in the queue."""
        if not one.over:
            one.over = True
            if one.server.held.pop(one.ticket, None) is not None:
                self._admit(one.server, Leave(one.ticket), self._loop.now)

    def _server(self, number: int) -> Server:
        lie = self._demand.lie if number == 0 else ""
        slots = CLAIMED_SLOTS if lie == "slow" else self._demand.slots
        return Server(number, node_id(number), Admission(slots, 10**6 if lie else 8), lie)

    def _answer(self, one: Try_, what: Event | str, load: Load | None, retry_after_s: float = 0.0) -> None:
        self.over_link(one, self._told, one, what, load, retry_after_s)

    def over_link(self, one: Try_, call: object, *args: object) -> None:
        """Over the link; at its own engine at once."""
        here = one.server is one.chase.entry.server
        self._loop.after(0.0 if here else self._demand.round_trip_s / 2, call, *args)  # type: ignore[arg-type]
