"""The local door: a job waits for a slot of this node's engine, is served, and gives the slot back however it ends.

Used by the origin for itself and by inbound.py for other nodes' jobs. Not for choosing whether to serve here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio

from meshnode.config.engine import EngineSection
from meshnode.dispatch import load
from meshnode.dispatch.begun import Begun, ServingEngine, begin
from meshnode.dispatch.ears import Ears, Waiting
from meshnode.dispatch.gate import Gate
from meshnode.dispatch.loads import Loads
from meshnode.dispatch.share import Share
from meshnode.errors import Draining, EngineDown, EngineFailed, Overloaded
from meshnode.gossip.facts import Facts
from meshnode.model.advert import ModelOffer
from meshnode.model.job import Job
from meshnode.model.names import same_model
from meshnode.routing import LocalState
from meshnode.routing.measure import units_of
from meshnode.slots.admission import Admission
from meshnode.slots.admission_events import Load
from meshnode.slots.admission_events import Waiting as Queued
from meshnode.slots.speed import Speeds


class LocalAnswer:
    """An engine's answer that has begun to say something. Ends with EngineFailed when the engine stopped short, or said
    what no client can read."""

    def __init__(
        self, begun: Begun, release: Callable[[], None], headers: Mapping[str, str], told: Callable[[], str],
        timed: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`told` says the engine's load, once this answer has given its slot back; `timed` is told the number of events
        of one that ended well."""
        self.status = begun.answer.status
        self.headers = headers
        self._trailers: dict[str, str] | None = None
        self._begun = begun
        self._first = begun.first
        self._release = release
        self._told = told
        self._timed = timed
        self._over = False

    @property
    def trailers(self) -> Mapping[str, str]:
        """The engine's load, told when somebody asks for it: this node's own clients never do."""
        if self._trailers is None:
            if not self._over:
                return {}
            self._trailers = {load.HEADER: self._told()}
        return self._trailers

    @property
    def events(self) -> int:
        """Events of a stream so far, about one a token; 0 for what is no stream."""
        return self._begun.judge.events

    def __aiter__(self) -> LocalAnswer:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        if data := await self._begun.more():
            return data
        await self.aclose()
        self._over = True
        self._timed(self.events)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        try:
            await self._begun.answer.aclose()
        finally:
            self._release()


class Local:
    """This node's engines, each behind its gate.

    `find` gives the engine for a model, needs and a prompt's tokens, None when there is none; `engines` all that are
    known; `share` says whose requests are taken, and whose each is.
    """

    def __init__(
        self,
        section: EngineSection,
        find: Callable[[str, frozenset[str], int], ServingEngine | None],
        engines: Callable[[], Sequence[ServingEngine]],
        share: Share,
    ) -> None:
        self.share = share
        self.speeds = Speeds()
        self.loads = Loads(section)
        self.ears = Ears(section)
        self._section = section
        self._find = find
        self._engines = engines
        self._gates: dict[str, Gate] = {}
        self.draining = False

    async def serve(self, job: Job, fell_mute: Callable[[], None] | None = None) -> LocalAnswer:
        """Wait for a slot, ask the engine, return once its first bytes are here; `fell_mute` is told once should the
        engine say nothing meanwhile, on this job or another.

        Raises RequestError: Overloaded, NotShared, Paused, EngineFailed, ModelNotFound, Draining.
        """
        if self.draining:
            raise Draining("this node is shutting down")
        engine = self._find(job.facts.model, job.facts.needs, job.facts.prompt_tokens)
        if engine is None:
            raise EngineDown(f"no engine serves {job.facts.model!r} now")
        gate = self._gate(engine)
        with gate.ear.wait(fell_mute) as waiting:
            return await self._serve(job, engine, gate, waiting)

    async def _serve(self, job: Job, engine: ServingEngine, gate: Gate, waiting: Waiting) -> LocalAnswer:
        asked_at, account = trio.current_time(), self.share.account(job)
        own, offer = account == gate.terms.owner, _offer(engine, job.facts.model)
        try:
            place = await gate.enter(job, offer.name if offer is not None else "", account, engine.name)
        except Overloaded as error:
            error.load = load.write(gate.load(own=own))
            raise
        held = [place.ticket]

        def release() -> None:
            if held:
                gate.leave(held.pop())

        def keep() -> Callable[[], None]:
            return partial(gate.leave, held.pop())

        try:
            # Without a place in the queue there was no wait.
            queued_ms = int((trio.current_time() - asked_at) * 1000) if place.position else 0
            offer, granted_at = _offer(engine, job.facts.model), trio.current_time()
            waiting.asked(self._first_token_s(job, offer), streams=job.facts.stream)
            if offer is not None and not offer.loaded:
                begun = await self.loads.begin(partial(begin, engine, job, gate), keep)
            else:
                begun = await begin(engine, job, gate)
            # An error says nothing of whether it generates.
            if begun.answer.status == 200:
                waiting.said()
        except EngineFailed as error:
            release()
            error.load = load.write(gate.load(own=own))
            raise
        except BaseException:
            release()
            raise
        headers = {
            **begun.answer.headers,
            "x-meshnode-queue-ms": str(queued_ms),
            "x-meshnode-queue-position": str(place.position),
        }
        timed = partial(self._time, job, offer, granted_at, trio.current_time())
        return LocalAnswer(begun, release, headers, lambda: load.write(gate.load(own=own)), timed)

    def facts(self) -> Facts | None:
        """What neighbours are told of this node's load, as it is for others than its owner."""
        gates = (self._gate(engine) for engine in self._engines())
        return None if self.draining else load.of_node(gate.load(own=False) for gate in gates)

    def load(self, engine: ServingEngine) -> Load:
        """Slots and queue of one engine."""
        return self._gate(engine).load()

    def waiting(self) -> list[tuple[str, Queued]]:
        """Who waits, by the engine's name, next first."""
        return [(name, one) for name, gate in self._gates.items() for one in gate.waiting()]

    def position(self, job_id: str) -> int:
        """The place in a queue here of a job that waits; 0 for one that does not."""
        return next((place for gate in self._gates.values() if (place := gate.position(job_id))), 0)

    def review(self) -> None:
        """The owner's terms changed: whoever waits and is not welcome any more is told at once."""
        for engine in self._engines():
            self._gate(engine)

    def state(self) -> LocalState:
        """What this node's engines can take now, by model; of several that have it, the one that waits least."""
        models: dict[str, Load] = {}
        if self.draining:
            return LocalState(models)
        for engine in self._engines():
            found = self.load(engine)
            for offer in engine.offers:
                known = models.get(offer.name)
                if known is None or (found.expected_wait_s, -found.free) < (known.expected_wait_s, -known.free):
                    models[offer.name] = found
        return LocalState(models)

    def _first_token_s(self, job: Job, offer: ModelOffer | None) -> float | None:
        """What it usually takes; None where that is not known, or the model is loaded first."""
        if offer is None or not offer.loaded:
            return None
        return self.speeds.first_token_s(offer.name, units_of(job.facts.prompt_tokens))

    def _time(self, job: Job, offer: ModelOffer | None, granted_at: float, first_at: float, events: int) -> None:
        """Learn from an answer that ended well, of `events`. What had to load its model first says nothing of speed."""
        if events > 1 and offer is not None and offer.loaded:
            self.speeds.first_token(offer.name, units_of(job.facts.prompt_tokens), first_at - granted_at)
            self.speeds.finished(offer.name, events - 1, trio.current_time() - first_at)

    def _gate(self, engine: ServingEngine) -> Gate:
        terms, found = self.share.terms(), self._gates.get(engine.name)
        if found is None:
            ageing_s = self.share.ageing_s
            admission = Admission(engine.slots, self._section.queue_min, ageing_s, terms)
            ear = partial(self.ears.of, engine.name)
            found = self._gates[engine.name] = Gate(admission, engine.slots, terms, ear)
        found.adjust(engine.slots, engine.resident, terms)
        return found


def _offer(engine: ServingEngine, model: str) -> ModelOffer | None:
    """The model as the engine offers it."""
    return next((offer for offer in engine.offers if same_model(model, offer.name)), None)
