"""How busy servers are, as far as this node knows: its own requests and what they report. Pure.

Only to decide whether a request may be asked twice (dispatch.pursuit); who is chosen is score.py's business.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.model.view import View
from meshnode.routing.eligible import LocalState
from meshnode.routing.measure import Measurements
from meshnode.routing.plan import Attempt, Plan


def busy_share(plan: Plan, view: View, measured: Measurements, local: LocalState, now: float) -> float:
    """Of all servers of a plan together, from 0 to 1, and above where some wait. One that is gone counts as full."""
    busy, slots = 0.0, 0
    for attempt in plan.attempts:
        taken, many = _taken(attempt, view, measured, local, now)
        busy, slots = busy + taken, slots + many
    return busy / slots if slots else 1.0


def spare(attempts: Iterable[Attempt], view: View, measured: Measurements, local: LocalState, now: float) -> bool:
    """Whether any of these servers seems to have a slot."""
    found = (_taken(attempt, view, measured, local, now) for attempt in attempts)
    return any(taken < many for taken, many in found)


def _taken(attempt: Attempt, view: View, measured: Measurements, local: LocalState, now: float) -> tuple[float, int]:
    """Of a server's slots, those that are taken, and how many there are."""
    own = local.models.get(attempt.model) if attempt.node == view.me else None
    offer = view.offer(attempt.node, attempt.model)
    many = offer.slots or 1 if offer is not None else 1
    record = measured.of(attempt.model).get(attempt.node)
    waits = record is not None and record.reported_until > now
    if offer is None or waits or (own is not None and own.free <= 0):
        return many, many
    if own is not None:
        return max(many - own.free, 0) + own.queued, many
    return record.outstanding + record.word.others(many, now) if record is not None else 0.0, many
