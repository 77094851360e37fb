"""How long a server may say nothing before another is asked besides. Pure; requests.md §3.

Its times are known, in this order, from answers that this node had of it, from its advert, and from both of other
servers of the same model. Not for what follows from it (pursuit.py). Counterpart: routing.measure, which learns.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from meshnode.routing.measure import NEW_SERVER, units_of, whole_units
from meshnode.routing.score import tokens_of

if TYPE_CHECKING:
    from meshnode.config.dispatch import DispatchSection
    from meshnode.model.advert import ModelOffer
    from meshnode.model.job import Facts
    from meshnode.routing import Terms
    from meshnode.routing.measure import Record


class DoubtAfter(NamedTuple):
    """With a server that does not answer: while another has a slot to spare, and while none has, when asking twice
    would make it worse."""

    idle_s: float
    busy_s: float


class Size(NamedTuple):
    """What a job asks for, as times are counted by: units until its first token, tokens after it, and units of all of
    it where the answer comes in one piece, 0 of a stream."""

    units: float
    tokens: int
    whole: float

    @classmethod
    def of(cls, facts: Facts) -> Size:
        """As its facts tell."""
        tokens = tokens_of(facts)
        return cls(
            units_of(facts.prompt_tokens), tokens, 0.0 if facts.stream else whole_units(facts.prompt_tokens, tokens)
        )


class Known(NamedTuple):
    """What may be known of one server's times for a model, from this node's requests and as its advert has it."""

    record: Record | None
    offer: ModelOffer | None

    def measured_s(self, size: Size) -> float | None:
        """What an answer of that size takes, by those that this node had."""
        return _measured_s(self.record, size) if self.record is not None else None

    def told_s(self, size: Size) -> float | None:
        """The same by its own word."""
        return _told_s(self.offer, size) if self.offer is not None else None


def answer_s(size: Size, server: Known, others: Iterable[Known]) -> float | None:
    """What a server's answer is known to take from when it is worked at: a stream's to its first token, else all of it.
    Of one never measured, twice what is said of it, or measured or said of `others` of the model; None where nothing is
    known."""
    own_s = server.measured_s(size)
    if own_s is not None:
        return own_s
    told_s = server.told_s(size)
    if told_s is None:
        found = [_first(one.measured_s(size), one.told_s(size)) for one in others]
        others_s = [one_s for one_s in found if one_s is not None]
        told_s = median(others_s) if others_s else None
    return NEW_SERVER * told_s if told_s is not None else None


def doubt_after(size: Size, terms: Terms, takes_s: float | None, left_s: float, section: DispatchSection) -> DoubtAfter:
    """For a server of which `terms` were predicted and whose answer is known to take `takes_s`, of a client that has
    `left_s`."""
    before_s = terms.queue_s + terms.cold_s
    usual_s = before_s + terms.path_s + terms.prefill_s + (terms.decode_s if size.whole else 0.0)
    busy_s = max(section.hang_s, section.hang_factor * usual_s)
    # Who has less time than that wants another server tried while there is time for it.
    if usual_s < left_s / 2 < busy_s:
        busy_s = left_s / 2
    if takes_s is None:
        return DoubtAfter(busy_s, busy_s)
    # What a server says of its queue is waited for once, and not a few times over: one that ails says so too.
    known_s = terms.queue_s + section.hang_factor * (terms.cold_s + takes_s)
    return DoubtAfter(min(busy_s, max(section.hang_known_s, known_s)), busy_s)


def _first(one: float | None, other: float | None) -> float | None:
    return one if one is not None else other


def _measured_s(record: Record, size: Size) -> float | None:
    """By answers that this node had."""
    if size.whole and record.whole_unit_s is not None:
        return record.whole_unit_s * size.whole
    if record.answered_unit_s is None:
        return None
    first_s = record.answered_unit_s * size.units
    if not size.whole:
        return first_s
    return first_s + record.per_token_s * size.tokens if record.per_token_s is not None else None


def _told_s(offer: ModelOffer, size: Size) -> float | None:
    """By a server's own word."""
    if not offer.prefill_ms or (size.whole and not offer.decode_us):
        return None
    return offer.prefill_ms / 1e3 * size.units + (offer.decode_us / 1e6 * size.tokens if size.whole else 0.0)
