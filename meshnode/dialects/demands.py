"""What a request asks of its server in its own headers: quantisation, price, whose machines.

Label, priority and deadline are read by front.handlers, what the body needs by `facts`. Counterpart: routing, which
leaves out whoever does not meet them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Final

from meshnode.errors import BadRequest
from meshnode.model.job import NO_DEMANDS, Demands
from meshnode.model.quant import least_bits

QUANT: Final = "x-meshnode-quant"
MAX_PRICE: Final = "x-meshnode-max-price"
MACHINES: Final = "x-meshnode-machines"

MICRO: Final = 1_000_000

_NAMES: Final = (QUANT, MAX_PRICE, MACHINES)


def read_demands(headers: Mapping[str, str]) -> Demands:
    """Header names are lower case. Raises BadRequest for a value that means nothing: to guess would be to weaken it."""
    if not any(name in headers for name in _NAMES):
        return NO_DEMANDS
    return Demands(
        quant_bits=_quant(headers.get(QUANT)),
        most_price_micro=_price(headers.get(MAX_PRICE)),
        own_machines=_machines(headers.get(MACHINES)),
    )


def _quant(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return least_bits(text)
    except ValueError as error:
        raise BadRequest(f"{QUANT}: {error}", param=QUANT) from error


def _price(text: str | None) -> int | None:
    """Of a million tokens."""
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not isfinite(price) or not 0 <= price <= MICRO:
        raise BadRequest(f"{MAX_PRICE} is the most that a million tokens may cost, such as 0.5", param=MAX_PRICE)
    return int(price * MICRO)


def _machines(text: str | None) -> bool:
    """Whether they have to be the owner's."""
    word = "any" if text is None else text.strip().lower()
    if word not in ("own", "any"):
        raise BadRequest(f"{MACHINES} is one of own, any", param=MACHINES)
    return word == "own"
