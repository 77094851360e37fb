"""How long one waits for a slot: what runs is let run out, and what goes first is dealt to whichever slot is free next.
Pure; counterpart: admission.py, which refuses whom this would keep too long."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Held(NamedTuple):
    """A slot that is held for about `left_s` more, by the machine's owner or not."""

    left_s: float
    own: bool


def wait_s(held: Sequence[Held], ahead_s: Iterable[float], slots: int, kept: int) -> float:
    """Seconds until one of `slots` is free for somebody, when requests that take `ahead_s` each go first.

    `kept` of the slots that the owner holds are not among them: they stay the owner's when they are given back.
    """
    own = sorted(one.left_s for one in held if one.own)
    free_in = sorted([one.left_s for one in held if not one.own] + own[: max(0, len(own) - kept)])
    slots = max(1, slots)
    # More may be held than there are slots since they became fewer: the first to be given back are gone.
    free_in = free_in[max(0, len(free_in) - slots) :]
    free_in = [0.0] * (slots - len(free_in)) + free_in
    for work_s in ahead_s:
        heapq.heapreplace(free_in, free_in[0] + work_s)
    return free_in[0]
