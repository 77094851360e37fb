"""What the front door needs of the rest of the node, as plain callables handed in by `node.py`.

Not for any decision: who answers a job, what is ready and who may join is known behind these. Counterpart: dispatch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshnode.dialects import ModelCard
from meshnode.model.answer import Answer
from meshnode.model.ids import NodeId
from meshnode.model.job import Job


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything that the front calls.

    `dispatch` returns an answer whose first bytes have arrived, or raises RequestError. `ready` is None while requests
    are welcome, else the reason why not ("starting", "draining"). `metrics` returns content type and body. `invite`
    takes seconds until expiry, or None for the usual time; `join` takes a token; both raise MeshnodeError. An empty
    `control_secret` closes the control endpoints.
    """

    me: NodeId
    dispatch: Callable[[Job], Awaitable[Answer]]
    models: Callable[[], Sequence[ModelCard]]
    status: Callable[[], Mapping[str, Any]]
    health: Callable[[], Mapping[str, Any]]
    ready: Callable[[], str | None]
    metrics: Callable[[], tuple[str, bytes]]
    invite: Callable[[float | None], Awaitable[Mapping[str, Any]]]
    join: Callable[[str], Awaitable[Mapping[str, Any]]]
    control_secret: str = ""
