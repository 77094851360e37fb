"""What this node has itself measured of servers: time to first token, time per token, failures, its own requests
under way. Pure; requests.md §1.

Peers' words enter in one place, the load they report, which can only raise a prediction. Counterparts: word.py,
score.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf

from meshnode.config.routing import RoutingSection
from meshnode.model.ids import NodeId
from meshnode.routing.word import LoadFacts, Word

BASE_UNITS = 0.25
"""A request costs as much before its first token as this many thousand tokens of prompt: scheduling, template, path."""

ANSWER_TOKENS = 16
"""So many tokens of an answer take about as long as a thousand of its prompt."""

_USUAL_SHARE = 0.3
"""Weight of one sample in what is usual: some five requests decide."""

_FAILURE_SHARE = 0.3
_FAILURE_MEMORY_S = 30.0
"""A failure weighs for about this long; longer outages are the breaker's."""

_MOST_FAILING = 0.95
"""The most that failures count, so that a prediction stays finite: 20 tries for one answer."""

_REFUSED_S = 2.0
"""A refusal counts at least so long: a server that refuses and says that it is free is asked once in a while."""

_MOST_REPORTED_S = 60.0
"""A wrong word of a server on its own load is forgotten after this."""

NEW_SERVER = 2.0
"""Guesses for a server never measured are doubled, so that it must prove itself (requests.md §1)."""

LEAST_SLOTS = 4
"""Slots that are believed of a server that says it has as many. Of more, twice those seen in use are: who invents slots
would look idle with any number of requests."""

_FRESH_S = 0.1
"""What fades is computed this often at most: a hundredth of the decay, and a decision reads a thousand records."""


class PeakAverage:
    """An average that jumps to a peak at once and fades towards the usual: bad news counts immediately, good news
    slowly. After Finagle's peak EWMA, which fades towards zero and so forgets that a slow server is slow."""

    __slots__ = ("_at", "_decay_s", "_faded_s", "_peak", "usual")

    def __init__(self, sample: float, now: float, decay_s: float) -> None:
        self._peak = self.usual = sample
        self._at = now
        self._decay_s = max(decay_s, 1e-3)
        self._faded_s = 5 * self._decay_s

    def read(self, now: float) -> float:
        """The value to expect now."""
        if self._peak <= self.usual or now - self._at > self._faded_s:
            return self.usual
        return self.usual + (self._peak - self.usual) * exp((self._at - now) / self._decay_s)

    def add(self, sample: float, now: float) -> None:
        """Learn one sample."""
        expected = self.read(now)
        self.usual += _USUAL_SHARE * (sample - self.usual)
        self._peak, self._at = max(sample, expected, self.usual), now


@dataclass(slots=True, eq=False)
class Flight:
    """One request of this node at a server, from being sent to its end. Made by `Measurements.started`; `conversation`
    is the attempt's; `at_once`: its server was to refuse it rather than let it wait; `whole` is the size of an answer
    that comes in one piece (`whole_units`), 0 of a stream."""

    node: NodeId
    model: str
    prompt_tokens: int
    started: float
    first_token_at: float | None = None
    ended: bool = False
    conversation: int = 0
    at_once: bool = False
    whole: float = 0.0

    @property
    def units(self) -> float:
        """The prompt's share of the work before the first token, in thousands of tokens."""
        return units_of(self.prompt_tokens)


def units_of(prompt_tokens: int) -> float:
    """A prompt's share of the work before the first token."""
    return prompt_tokens / 1000 + BASE_UNITS


def whole_units(prompt_tokens: int, tokens: int) -> float:
    """The work until an answer of `tokens` is here, where it comes in one piece; in units of its prompt."""
    return units_of(prompt_tokens) + tokens / ANSWER_TOKENS


@dataclass(slots=True, eq=False)
class Record:
    """All that is known of one server for one model.

    `outstanding` counts this node's own requests there, `waiting` holds those without a first token, oldest first;
    `reported_until` is when the wait the server spoke of is over, never before `refused_until`; `seen_slots` the most
    requests of this node that it answered at once.

    `per_unit_s` (to the first token, by unit of prompt, path and queue included), `per_token_s` and `tries` (until one
    succeeds) are to be read after `refresh`; the first two are None where never seen. `answered_unit_s` and
    `whole_unit_s` are of streams and of answers in one piece, each by its own units, and of what was answered alone:
    who waits in vain makes a server look slow, and must not lend it patience.
    """

    outstanding: int = 0
    waiting: dict[Flight, None] = field(default_factory=dict)
    reported_until: float = 0.0
    refused_until: float = 0.0
    seen_slots: int = LEAST_SLOTS // 2
    word: Word = field(default_factory=Word)
    per_unit_s: float | None = None
    answered_unit_s: float | None = None
    whole_unit_s: float | None = None
    per_token_s: float | None = None
    tries: float = 1.0
    stale_at: float = -inf
    _first_token: PeakAverage | None = None
    _per_token: PeakAverage | None = None
    _failing: float = 0.0
    _failing_at: float = 0.0

    def refresh(self, now: float) -> None:
        """Let peaks and failures fade. To be called where `now` has reached `stale_at`."""
        if self._first_token is not None:
            self.per_unit_s = self._first_token.read(now)
        if self._per_token is not None:
            self.per_token_s = self._per_token.read(now)
        failing = self._failing * exp((self._failing_at - now) / _FAILURE_MEMORY_S)
        self.tries = 1 / (1 - min(failing, _MOST_FAILING))
        self.stale_at = now + _FRESH_S

    def waited_s(self, now: float) -> float:
        """How long the oldest request without a first token has waited."""
        return now - next(iter(self.waiting)).started if self.waiting else 0.0

    def learn_first_token(self, per_unit_s: float, now: float, decay_s: float) -> None:
        """Learn one time to a first token, by unit of prompt."""
        self._first_token = _learn(self._first_token, per_unit_s, now, decay_s)
        self.refresh(now)

    def learn_answer(self, flight: Flight, now: float, decay_s: float) -> None:
        """Learn what a request took that is answered now: a stream to its first token, else to its end."""
        took_s = now - flight.started
        if flight.whole:
            self.whole_unit_s = _usual(self.whole_unit_s, took_s / flight.whole)
        else:
            self.answered_unit_s = _usual(self.answered_unit_s, took_s / flight.units)
        self.learn_first_token(took_s / flight.units, now, decay_s)

    def learn_per_token(self, per_token_s: float, now: float, decay_s: float) -> None:
        """Learn the pace of one answer."""
        self._per_token = _learn(self._per_token, per_token_s, now, decay_s)
        self.refresh(now)

    def learn_outcome(self, ok: bool, now: float) -> None:
        """Learn a success or a failure."""
        failing = self._failing * exp((self._failing_at - now) / _FAILURE_MEMORY_S)
        self._failing = failing * (1 - _FAILURE_SHARE) + (0.0 if ok else _FAILURE_SHARE)
        self._failing_at = now
        self.refresh(now)


def _usual(known: float | None, sample: float) -> float:
    return sample if known is None else known + _USUAL_SHARE * (sample - known)


def _learn(average: PeakAverage | None, sample: float, now: float, decay_s: float) -> PeakAverage:
    if average is None:
        return PeakAverage(sample, now, decay_s)
    average.add(sample, now)
    return average


class Measurements:
    """Records by model and node. Bounded: records without requests under way go first, the least recent before others.

    Each request is one Flight: `started`, perhaps `first_token`, and one of `finished`, `failed`, `refused`,
    `cancelled`; a second ending is ignored, so that cleaning up may be careless.
    """

    def __init__(self, section: RoutingSection) -> None:
        self._section = section
        self._by_model: dict[str, dict[NodeId, Record]] = {}
        self._recent: dict[tuple[str, NodeId], Record] = {}

    def __len__(self) -> int:
        return len(self._recent)

    def of(self, model: str) -> Mapping[NodeId, Record]:
        """Records of every server of `model`, by the name that the server offers."""
        return self._by_model.get(model, {})

    def started(
        self, node: NodeId, model: str, prompt_tokens: int, now: float, *, at_once: bool = False, whole: float = 0.0
    ) -> Flight:
        """A request is sent."""
        record = self._record(node, model)
        flight = Flight(node, model, prompt_tokens, now, at_once=at_once, whole=whole)
        record.outstanding += 1
        record.waiting[flight] = None
        return flight

    def first_token(self, flight: Flight, now: float) -> None:
        """The first byte of the answer's body is here."""
        if flight.ended or flight.first_token_at is not None:
            return
        flight.first_token_at = now
        record = self._record(flight.node, flight.model)
        record.waiting.pop(flight, None)
        record.seen_slots = max(record.seen_slots, record.outstanding - len(record.waiting))
        if flight.at_once:
            record.word.first_token(now - flight.started, flight.units, flight.prompt_tokens, now)
        record.learn_answer(flight, now, self._section.decay_s)

    def finished(self, flight: Flight, tokens: int, now: float) -> None:
        """The answer ended as it should, `tokens` long (0: unknown)."""
        record = self._end(flight, now)
        if record is None:
            return
        if flight.first_token_at is None:
            record.learn_answer(flight, now, self._section.decay_s)
        elif tokens > 1:
            record.learn_per_token((now - flight.first_token_at) / (tokens - 1), now, self._section.decay_s)
        record.learn_outcome(True, now)

    def failed(self, flight: Flight, now: float) -> None:
        """The server or the way to it broke. Its speed in failing is not learnt: it would look quick."""
        record = self._end(flight, now)
        if record is not None:
            record.learn_outcome(False, now)

    def refused(self, flight: Flight, expected_wait_s: float, now: float) -> None:
        """The server was full, and said (by its load or Retry-After) how long it will be."""
        record = self._end(flight, now)
        if record is not None:
            record.word.refused(now)
            record.refused_until = now + min(expected_wait_s, _REFUSED_S)
            record.reported_until = now + expected_wait_s

    def cancelled(self, flight: Flight, now: float) -> None:
        """The request ended without saying much of the server: the client left, or the fault was the client's. Only a
        wait longer than expected is learnt, or a silent server would go unnoticed by impatient clients."""
        record = self._end(flight, now)
        if record is None or flight.first_token_at is not None:
            return
        sample = (now - flight.started) / flight.units
        guess_s = NEW_SERVER * self._section.guess_first_token_s
        if sample > (guess_s if record.per_unit_s is None else record.per_unit_s):
            record.learn_first_token(sample, now, self._section.decay_s)

    def reported(self, node: NodeId, model: str, load: LoadFacts, now: float) -> None:
        """Load that a server reported on its own (a trailer, a ping). That it has nothing to do is news only of one
        that was busy; that it refused just now was seen, whatever it says after."""
        if load.free > 0 and not load.busy and not load.queued and node not in self.of(model):
            return
        record = self._record(node, model)
        wait_s = 0.0 if load.free > 0 else min(load.expected_wait_s, _MOST_REPORTED_S)
        record.reported_until = max(record.refused_until, now + wait_s)
        record.word.told(load, record.outstanding, now)

    def _end(self, flight: Flight, now: float) -> Record | None:
        if flight.ended:
            return None
        flight.ended = True
        record = self._record(flight.node, flight.model)
        record.outstanding -= 1
        record.waiting.pop(flight, None)
        record.word.ended(now)
        return record

    def _record(self, node: NodeId, model: str) -> Record:
        """The record, now the most recent; made if it is not there."""
        record = self._recent.pop((model, node), None)
        if record is None:
            self._make_room()
            record = self._by_model.setdefault(model, {}).setdefault(node, Record())
        self._recent[model, node] = record
        return record

    def _make_room(self) -> None:
        """Forget the least recent idle record. Where all are in use their number is bounded by the requests."""
        if len(self._recent) < self._section.measured:
            return
        idle = next((key for key, record in self._recent.items() if not record.outstanding), None)
        if idle is None:
            return
        del self._recent[idle]
        model, node = idle
        del self._by_model[model][node]
        if not self._by_model[model]:
            del self._by_model[model]
