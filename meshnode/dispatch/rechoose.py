"""A relay's second thought on an open job: another server, where this node knows better than the origin could.

Only where the target cannot serve as this node sees it, or a server here or next door promises to be clearly quicker;
never one that the job has passed. Not for sealed jobs, which name their server for good. protocol.md §6.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from meshnode.model.ids import NodeId
from meshnode.model.job import Job

if TYPE_CHECKING:
    from meshnode.dispatch.dispatcher import Surroundings

BETTER = 0.5
"""Of the target's predicted time: the origin's measurements are as good as this node's, and a job that is sent about
for small gains goes nowhere."""


def target_for(around: Surroundings, job: Job, target: NodeId, now: float) -> NodeId:
    """The server that `job`, which its origin sent to `target`, is to go to from here."""
    view = around.view()
    plan = around.router.consider(job, view, around.local.state(), Random(job.id), now)  # noqa: S311 - no secret
    others = [a for a in plan.attempts if a.model == job.facts.model and a.node != target]
    meant = next((attempt for attempt in plan.attempts if attempt.node == target), None)
    if meant is None:
        lost = target not in view.adverts or any(exclusion.node == target for exclusion in plan.exclusions)
        return others[0].node if lost and others else target
    near = min(
        (attempt for attempt in others if len(attempt.path) <= 2),
        key=lambda attempt: attempt.score.predicted_s,
        default=None,
    )
    if near is not None and near.score.predicted_s < BETTER * meant.score.predicted_s:
        return near.node
    return target
