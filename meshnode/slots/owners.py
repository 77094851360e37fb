"""For whom a job is, as far as this node believes it: the account that admission charges. Pure.

A claim counts only where a certificate stands behind it; every other job is its sender's, who gains nothing by any
name. Counterpart: dispatch.local, which asks before each admission.
"""

from __future__ import annotations

from collections.abc import Callable

from meshnode.model.ids import NodeId
from meshnode.model.job import Job


def machine_account(owner: str, me: NodeId) -> str:
    """The account of a machine's owner; one that is nobody's in particular has one of its own."""
    return f"owner:{owner}" if owner else f"node:{me.text}"


def account_of(job: Job, owner: str, vouched: Callable[[NodeId], str]) -> str:
    """The account of a job at the node that serves it. `owner` is this machine's, `vouched` gives the owner that a
    node's certificate names, or nothing.

    A job of this node's own clients has passed nobody, and its owner was set here. Another's owner is believed when the
    job came from its origin itself, over a link or a tunnel that proves who that is, or brings its origin's signature:
    a relay that can read a job could have written anybody's name into it.
    """
    if not job.path:
        return machine_account(job.owner or owner, job.origin)
    sender = job.path[-1]
    known = sender == job.origin or job.proven
    backed = bool(job.owner) and known and job.owner == vouched(job.origin)
    return machine_account(job.owner if backed else "", sender)
