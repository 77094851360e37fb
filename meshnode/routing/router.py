"""The room's face: choose servers for a job, and learn how each request at a server went. Pure.

One request at a server is one Flight; telling its beginning and its end moves measurements and breakers together, so
that no caller can move only one. Counterpart: dispatch, which performs what is planned here.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from meshnode.config.dispatch import DispatchSection
from meshnode.config.routing import RoutingSection
from meshnode.model.ids import NodeId
from meshnode.model.job import Job
from meshnode.model.view import View
from meshnode.routing.affinity import NONE
from meshnode.routing.aliases import Aliases
from meshnode.routing.eligible import LocalState
from meshnode.routing.known import Known
from meshnode.routing.measure import Flight
from meshnode.routing.plan import Attempt, Plan, Planner
from meshnode.routing.tree import MOST_HOPS
from meshnode.routing.word import LoadFacts


class Router:
    """Everything this node knows about choosing. Times are `now` of one monotonic clock, in seconds."""

    def __init__(self, dispatch: DispatchSection, section: RoutingSection) -> None:
        self.known = Known(section)
        self.aliases = Aliases(section)
        self._planner = Planner(self.known, self.aliases, dispatch, section)

    def constrain(self, job: Job) -> Job:
        """The job under the rules of the alias that it names and of this node: what it travels under from here on."""
        return self.aliases.constrain(job)

    def plan(self, job: Job, view: View, local: LocalState, rng: Random, now: float) -> Plan:
        """Servers to try, in order; at least one.

        Raises ModelNotFound, ContextExceeded, BadRequest, NoPeerReachable or NoEligibleNode where nobody may serve the
        job.
        """
        plan = self.consider(job, view, local, rng, now)
        if plan.refusal is not None:
            raise plan.refusal
        return plan

    def consider(
        self, job: Job, view: View, local: LocalState, rng: Random, now: float, *, everybody: bool = False
    ) -> Plan:
        """Like `plan`, but a refusal is in the plan instead of raised: for explaining. `everybody`: look at all servers
        however many there are, for people who ask about a mesh and not for a request."""
        return self._planner.plan(job, view, local, rng, now, everybody=everybody)

    def next_hop(
        self, view: View, target: NodeId, exclude: Collection[NodeId] = (), hops_left: int = MOST_HOPS
    ) -> NodeId | None:
        """Whom a relay, or the origin, hands a job for `target`: never one of `exclude` (the job's path so far), and
        only where `hops_left` suffice; None if there is nobody."""
        return self.known.paths.next_hop(view, target, exclude, hops_left)

    def around(self, attempt: Attempt, view: View, lost: Collection[NodeId], hops_left: int) -> Attempt | None:
        """The same attempt on a way past the nodes `lost`; None if there is none."""
        if not lost or set(lost).isdisjoint(attempt.path):
            return attempt
        reach = self.known.paths.reach(view, attempt.node, lost, hops_left)
        return attempt._replace(path=reach.path) if reach is not None else None

    def started(
        self, attempt: Attempt, prompt_tokens: int, now: float, *, at_once: bool = False, whole: float = 0.0
    ) -> Flight:
        """A request goes to the server of `attempt`; `at_once`: which is to refuse it rather than let it wait; `whole`
        is the size of an answer in one piece."""
        self.known.breakers.started(attempt.node, attempt.model, now)
        flight = self.known.measurements.started(
            attempt.node, attempt.model, prompt_tokens, now, at_once=at_once, whole=whole
        )
        flight.conversation = attempt.conversation
        if flight.conversation != NONE:
            self.known.affinity.begin(flight.conversation, flight.node, flight.model, now)
        return flight

    def first_token(self, flight: Flight, now: float) -> None:
        """The first bytes of its body are here."""
        self.known.measurements.first_token(flight, now)
        self.known.aperture.answered(flight.model, flight.node)
        self.known.affinity.settle(flight.conversation, flight.node, flight.model, now)

    def finished(self, flight: Flight, tokens: int, now: float) -> None:
        """It ended well; `tokens` of answer, 0 if unknown."""
        if not flight.ended:
            self.known.breakers.succeeded(flight.node, flight.model, now)
        self.known.measurements.finished(flight, tokens, now)
        self.known.aperture.answered(flight.model, flight.node)

    def failed(self, flight: Flight, now: float) -> None:
        """The server or the way to it broke, before or after the first byte."""
        if not flight.ended:
            self.known.breakers.failed(flight.node, flight.model, now)
            self.known.affinity.leave(flight.conversation, flight.node)
        self.known.measurements.failed(flight, now)

    def refused(self, flight: Flight, expected_wait_s: float | None, now: float) -> None:
        """The server is full: its own word (load or Retry-After) on how long, if it gave one. No breaker counts it."""
        self.known.affinity.leave(flight.conversation, flight.node)
        wait_s = DEFAULT_REFUSED_S if expected_wait_s is None else min(expected_wait_s, MOST_REFUSED_S)
        self.known.measurements.refused(flight, wait_s, now)

    def cancelled(self, flight: Flight, now: float) -> None:
        """It ended for a reason that is not the server's: the client left, or asked for the impossible."""
        self.known.measurements.cancelled(flight, now)

    def heard(self, view: View, node: NodeId, load: LoadFacts, now: float) -> None:
        """A neighbour told its load, all engines together: it counts for each model that it offers."""
        advert = view.adverts.get(node)
        for offer in advert.models if advert is not None else ():
            self.known.measurements.reported(node, offer.name, load, now)

    def reported(self, node: NodeId, model: str, load: LoadFacts, now: float) -> None:
        """A server told its load (trailer, ping)."""
        self.known.measurements.reported(node, model, load, now)


DEFAULT_REFUSED_S = 1.0
"""A full server that says nothing more is avoided this long: about one short answer."""

MOST_REFUSED_S = 60.0
"""A wrong word of a server on its own load is forgotten after this."""
