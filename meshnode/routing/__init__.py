"""Choosing: who may serve a job, who does it best, over which way, and who is left alone for a while.

Pure. `Router` is the face: it plans, and is told how things went. Not for sending anything (dispatch). requests.md §1.
"""

from meshnode.routing.eligible import LocalState
from meshnode.routing.explain import explain, reason
from meshnode.routing.measure import Flight
from meshnode.routing.offers import Exclusion
from meshnode.routing.path import Paths
from meshnode.routing.plan import Attempt, Plan
from meshnode.routing.router import Router
from meshnode.routing.score import Score, Terms
from meshnode.routing.seen import Seen
from meshnode.routing.tree import Reach, Tree
from meshnode.routing.word import LoadFacts

__all__ = [
    "Attempt",
    "Exclusion",
    "Flight",
    "LoadFacts",
    "LocalState",
    "Paths",
    "Plan",
    "Reach",
    "Router",
    "Score",
    "Seen",
    "Terms",
    "Tree",
    "explain",
    "reason",
]
