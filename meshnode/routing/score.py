"""How good a server would be for a job, as a number of seconds with its terms named. Pure; requests.md §1.

`score = predicted seconds x (1 + outstanding/slots) x cost x power x trust / preference`; smaller is better. Not for
who may serve (eligible) nor for picking (order).
"""

from __future__ import annotations

from typing import NamedTuple

from meshnode.config.routing import RoutingSection
from meshnode.model.job import Facts
from meshnode.routing.measure import LEAST_SLOTS, Record, units_of
from meshnode.routing.offers import Candidate
from meshnode.routing.word import LoadFacts

EXPECTED_TOKENS = 256
"""Length of an answer where the client names none, and the most assumed where it names more: `max_tokens` is a
ceiling that clients set far above what they get."""

_ANSWERS_AT_ONCE = frozenset({"embeddings", "rerank"})


class Terms(NamedTuple):
    """What a score is made of. Seconds, then factors.

    Where a server was measured, `prefill_s` is the measured time to the first token less the path, so that together
    they are what was seen; a queue met on the way is inside it, and `queue_s` adds what the server reports now, what
    the requests known to be there beyond its slots will take, or what one waited there that should not have.
    `outstanding` is 1 where none are known to be there, of this node or by the server's word of others, and 2 for as
    many as it has slots.
    `trust` is 1 for who was verified, attested or pinned: an unverified claim never ranks above another. `preference`
    is the weight of an alias's entry.
    """

    path_s: float
    queue_s: float
    cold_s: float
    prefill_s: float
    decode_s: float
    tries: float
    outstanding: float
    cost: float
    power: float
    trust: float
    preference: float


class Score(NamedTuple):
    """`value` orders servers; `predicted_s` is the expected time to the whole answer, failures included."""

    value: float
    predicted_s: float
    terms: Terms


class Ask(NamedTuple):
    """The size of a job, in the units that predictions use: see `size_of`."""

    units: float
    tokens: int
    cold_start_s: float


def size_of(facts: Facts, section: RoutingSection) -> Ask:
    """Take from a job and the settings what every prediction needs."""
    return Ask(units_of(facts.prompt_tokens), tokens_of(facts), section.cold_start_s)


def tokens_of(facts: Facts) -> int:
    """The tokens to expect of an answer."""
    tokens = min(facts.max_tokens or EXPECTED_TOKENS, EXPECTED_TOKENS)
    return tokens if _ANSWERS_AT_ONCE.isdisjoint(facts.needs) else 0


Rating = tuple[float, float, float, float, float, float, float, float, float, int]
"""A score, its terms, and how many of this node's own requests are there; without names, because a decision makes a
thousand of them: see `named`."""


def rate(candidate: Candidate, record: Record | None, ask: Ask, now: float, load: LoadFacts | None = None) -> Rating:
    """Value, predicted seconds, the first seven Terms of one candidate, and this node's requests there. `load` is this
    node's own, where it is the candidate."""
    path_s = candidate.cost_s
    cold_s = 0.0 if candidate.loaded else ask.cold_start_s
    queue_s = load.expected_wait_s if load is not None and load.free <= 0 else 0.0
    if record is None:
        prefill_s, decode_s = ask.units * candidate.guess_first_s, ask.tokens * candidate.guess_token_s
        tries = outstanding = 1.0
        own = 0
    else:
        if now >= record.stale_at:
            record.refresh(now)
        if record.reported_until:
            queue_s = max(queue_s, record.reported_until - now)
        guess_s, per_unit_s = candidate.guess_first_s, record.per_unit_s
        first_s = guess_s * ask.units + path_s if per_unit_s is None else per_unit_s * ask.units
        if record.waiting:
            first_s = max(first_s, record.waited_s(now))
        prefill_s = first_s - path_s if first_s > path_s else 0.0
        decode_s = ask.tokens * (candidate.guess_token_s if record.per_token_s is None else record.per_token_s)
        tries = record.tries
        own, word = record.outstanding, record.word
        slots, taken = candidate.slots, float(own)
        if slots > LEAST_SLOTS:
            slots = min(slots, 2 * record.seen_slots)
        if word.share:
            taken += word.others(slots, now)
        if word.doubted_until > now:
            taken, queue_s = max(taken, slots), max(queue_s, word.broken_s)
        # This node's own queue is known better than by counting, others' requests by the wait that their server tells.
        waiting = (own if queue_s > 0.0 else taken) + 1 - slots
        if waiting > 0 and load is None:
            queue_s = max(queue_s, waiting / slots * (prefill_s + decode_s))
        outstanding = 1.0 + taken / slots
    predicted_s = (path_s + queue_s + cold_s + prefill_s + decode_s) * tries
    value = predicted_s * outstanding * candidate.weight
    return (value, predicted_s, path_s, queue_s, cold_s, prefill_s, decode_s, tries, outstanding, own)


def named(rating: Rating, candidate: Candidate, preference: float = 1.0) -> Score:
    """The same with names."""
    terms = Terms._make((*rating[2:9], candidate.cost, candidate.power, candidate.trust, preference))
    return Score(rating[0] / preference, rating[1], terms)
