"""Quantisations by their bits a weight: what engines call them, brought to tiers that can be compared. Pure.

"Q4_K_M", "AWQ", "4bit" and "MXFP4" are one tier, 4. Quality within a tier differs and is not judged here. Not for who
serves what (routing).
"""

from __future__ import annotations

import re

TIERS = (1, 2, 3, 4, 5, 6, 8, 16, 32)
"""Bits a weight, rounded down: 4.65 bpw is no q5."""

_BEFORE, _AFTER = r"(?<![a-z0-9.])", r"(?![a-z0-9])"
_SPELLINGS = tuple(
    re.compile(_BEFORE + spelling)
    for spelling in (
        r"(\d{1,2}(?:\.\d{1,3})?)[ _-]?(?:bits?|bpw)" + _AFTER,  # MLX, EXL2, bitsandbytes, GPTQ-4bit
        r"w(\d{1,2})a\d{1,2}" + _AFTER,  # compressed-tensors: weights, then activations
        r"q(\d)f\d{2}" + _AFTER,  # MLC
        r"[it]?q(\d{1,2})" + _AFTER,  # GGUF, with or without _K_M, _0, _XXS behind it
        r"(?:nvfp|mxfp|bfp|fp|bf|float|bfloat|nf|u?int|f)(4|6|8|16|32)" + _AFTER,
    )
)
_WORDS = ((re.compile(_BEFORE + "half" + _AFTER), 16), (re.compile(_BEFORE + r"(?:awq|gptq)" + _AFTER), 4))
"""Methods that are 4 bits a weight unless they say otherwise, which was looked for before."""

_MLC_PLAIN = re.compile(_BEFORE + r"q0f(16|32)" + _AFTER)

LONGEST = 128
"""Characters read of a name."""


def bits_of(name: str) -> int:
    """The tier of a quantisation, or of a model's name that holds one; 0 where nothing is said that is known."""
    text = name[:LONGEST].lower().replace("_", "-")
    plain = _MLC_PLAIN.search(text)
    if plain is not None:
        return int(plain.group(1))
    for spelling in _SPELLINGS:
        found = spelling.search(text)
        if found is not None:
            return _tier(float(found.group(1)))
    return next((bits for word, bits in _WORDS if word.search(text)), 0)


def least_bits(wish: str) -> int:
    """What "at least q5" asks for: any spelling of a quantisation, or the bare bits. Raises ValueError."""
    text = wish.strip().lower()
    bits = _tier(float(text)) if re.fullmatch(r"\d{1,2}", text) else bits_of(text)
    if not bits:
        raise ValueError(f"{wish[:40]!r} is no quantisation; say for example q4, q5, q8 or fp16")
    return bits


def split_quant(model: str) -> tuple[str, int]:
    """`name:q5` is the name and its least bits, 0 where the name ends with nothing of the kind. Only the bare tier
    counts: a longer tag is a model's own."""
    name, colon, tag = model.rpartition(":")
    if colon and name and re.fullmatch(r"q\d{1,2}", tag, re.IGNORECASE) and bits_of(tag):
        return name, bits_of(tag)
    return model, 0


def _tier(bits: float) -> int:
    return max((tier for tier in TIERS if tier <= bits), default=0) if bits <= TIERS[-1] else 0
