"""Whole numbers in headers between nodes, in the one way in which they are written. Pure.

`int` also reads signs, spaces, underscores, leading zeros and the digits of other scripts: then two readers of one
header could differ, and what is passed on would not be what came. Not for what people write (config, front).
"""

from __future__ import annotations

MOST_DIGITS = 9
"""A day has 86,400,000 milliseconds."""


def read_digits(text: str) -> int:
    """The number that `str` wrote so. Raises ValueError for anything else, and for more than MOST_DIGITS."""
    plain = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    if not plain or (text[0] == "0" and text != "0"):
        raise ValueError(f"not a number as nodes write it: {text!r:.40}")
    return int(text)
