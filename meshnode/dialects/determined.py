"""Whether a request asks for an answer that is the same each time, so that two who ask it at once may share one.

Only what the client itself says: temperature 0, or a seed. Not for whether engines keep the promise. Pure.
"""

from __future__ import annotations

import msgspec

from meshnode.dialects.facts import CHAT, COMPLETION


class _Sampling(msgspec.Struct):
    temperature: float | None = None
    seed: int | None = None


_SAMPLING = msgspec.json.Decoder(_Sampling)


def determined(route: str, body: bytes) -> bool:
    """True only for what is surely so."""
    # Most bodies name neither, and a search costs a hundredth of a decoding.
    if route not in (CHAT, COMPLETION) or not (b'"temperature"' in body or b'"seed"' in body):
        return False
    try:
        asked = _SAMPLING.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return asked.temperature == 0 or asked.seed is not None
