"""How fast this node's engines were found to answer, as its advert tells those who never asked here. Pure.

Not for choosing: who has asked goes by its own measurement (routing.measure), whatever a server says of itself.
Counterpart: routing.offers, which reads it. protocol.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from meshnode.model.advert import ModelOffer

_SHARE = 0.1
"""Weight of one answer: some twenty decide, so that one cached prompt or one busy minute does not."""

_NEWS = 1.4
"""What is told stands until the truth is so many times more or less: every word goes to the whole mesh."""

MOST_MODELS = 64
"""As many as an advert lists."""


class Speed(NamedTuple):
    """Milliseconds from the slot to the first token by unit of prompt (`meshnode.routing.measure.units_of`), and
    microseconds by token after it; 0 where not measured."""

    prefill_ms: int = 0
    decode_us: int = 0


class _Pace:
    """One average and what was last told of it, both in the unit of the telling."""

    __slots__ = ("_told", "average")

    def __init__(self) -> None:
        self.average = 0.0
        self._told = 0

    def add(self, sample: float) -> None:
        self.average += (sample - self.average) * (_SHARE if self.average else 1.0)

    def tell(self) -> int:
        if self.average and not self._told / _NEWS < self.average < self._told * _NEWS:
            self._told = max(1, round(self.average))
        return self._told


class Speeds:
    """Of each model, whichever of this node's engines answered."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[_Pace, _Pace]] = {}

    def first_token(self, model: str, units: float, took_s: float) -> None:
        """The first token came `took_s` after the request got its slot."""
        if (paces := self._paces(model)) is not None:
            paces[0].add(took_s * 1e3 / units)

    def finished(self, model: str, tokens: int, took_s: float) -> None:
        """`tokens` followed the first within `took_s`."""
        if tokens > 0 and (paces := self._paces(model)) is not None:
            paces[1].add(took_s * 1e6 / tokens)

    def of(self, model: str) -> Speed:
        """What to tell now."""
        found = self._of.get(model)
        return Speed(found[0].tell(), found[1].tell()) if found is not None else Speed()

    def first_token_s(self, model: str, units: float) -> float | None:
        """What a first token usually takes from the slot; None where that was not measured."""
        found = self._of.get(model)
        return found[0].average * units / 1e3 if found is not None and found[0].average else None

    def marked(self, offers: Iterable[ModelOffer]) -> tuple[ModelOffer, ...]:
        """The offers, with what is to be told of each."""
        told = ((offer, self.of(offer.name)) for offer in offers)
        return tuple(replace(offer, prefill_ms=speed.prefill_ms, decode_us=speed.decode_us) for offer, speed in told)

    def _paces(self, model: str) -> tuple[_Pace, _Pace] | None:
        found = self._of.get(model)
        if found is None and len(self._of) < MOST_MODELS:
            found = self._of[model] = (_Pace(), _Pace())
        return found
