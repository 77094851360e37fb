"""How long a suspicion lasts: shorter the more nodes came to it by themselves. Arithmetic only.

Lifeguard's dynamic suspicion (Dadgar, Phillips, Currey 2018, §IV.B): from the longest time, the logarithm of the
confirmations leads to the shortest. Not for who is suspected (detector.py).
"""

from __future__ import annotations

from math import log, log10

CONFIRMATIONS = 3
"""Lifeguard's K: this many others saying so are as sure as one can be."""

_SHORTEST = 0.5
"""Share of the longest time that is left then: two periods on a LAN of ten, in which a node that only paused speaks."""


def longest_s(periods: int, period_s: float, nodes: int) -> float:
    """How long a suspicion lasts that nobody confirms: news of a refutation takes a number of hops that grows with the
    logarithm of the nodes (SWIM §4.2)."""
    return periods * period_s * max(1.0, log10(max(nodes, 1)))


def lasts_s(longest: float, confirmed: int, witnesses: int) -> float:
    """How long it lasts when `confirmed` of the `witnesses`, who could tell, say so too."""
    needed = min(CONFIRMATIONS, witnesses)
    if needed == 0:
        return longest
    shortest = _SHORTEST * longest
    return max(shortest, longest - (longest - shortest) * log(confirmed + 1) / log(needed + 1))
