"""How busy the servers of a plan are together, as far as this node knows: its own requests and what servers report.

Pure. Only to decide whether a request may be asked twice (dispatch.pursuit); who is chosen is score.py's business.
"""

from __future__ import annotations

from meshnode.model.view import View
from meshnode.routing.eligible import LocalState
from meshnode.routing.measure import Measurements
from meshnode.routing.plan import Plan


def busy_share(plan: Plan, view: View, measured: Measurements, local: LocalState, now: float) -> float:
    """From 0 to 1, and above where some wait. A server that is gone counts as full."""
    busy, slots = 0.0, 0
    for attempt in plan.attempts:
        own = local.models.get(attempt.model) if attempt.node == view.me else None
        offer = view.offer(attempt.node, attempt.model)
        many = offer.slots or 1 if offer is not None else 1
        slots += many
        record = measured.of(attempt.model).get(attempt.node)
        waits = record is not None and record.reported_until > now
        if offer is None or waits or (own is not None and own.free <= 0):
            busy += many
        elif own is not None:
            busy += max(many - own.free, 0) + own.queued
        elif record is not None:
            busy += record.outstanding + record.word.others(many, now)
    return busy / slots if slots else 1.0
