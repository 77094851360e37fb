"""A request on its way: what it asks, for whom, until when, and where it has been.

Frozen: a hop makes a new one. Body bytes are the client's, untouched. Not for the answer (answer.py) nor for reading
bodies (dialects.facts).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshnode.model.ids import NodeId

FEATURES = ("chat", "completion", "embeddings", "rerank", "tools", "vision")
"""Words an offer's `features` may hold and a job may need."""


class Priority(enum.IntEnum):
    """Three tiers; lower is served first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Label(enum.Enum):
    """How far a request may travel (protocol.md §7)."""

    PUBLIC = "public"
    INTERNAL = "internal"
    SENSITIVE = "sensitive"


def stricter(one: Label, other: Label) -> Label:
    """The label that lets a request travel less far."""
    return max(one, other, key=_STRICTNESS.index)


_STRICTNESS = (Label.PUBLIC, Label.INTERNAL, Label.SENSITIVE)


class Privacy(enum.Enum):
    """How a request passes relays (protocol.md §6): readable only by its server, or by each of them, who may then
    choose a better server."""

    SEALED = "sealed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Facts:
    """What routing must know of a body, read once without changing it.

    `needs` are words of FEATURES; `prompt_tokens` an over-estimate; `max_tokens` 0 where the client named none;
    `session` a key under which requests of one conversation meet, or None.
    """

    model: str
    stream: bool = False
    needs: frozenset[str] = frozenset({"chat"})
    prompt_tokens: int = 0
    max_tokens: int = 0
    include_usage: bool = False
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks of the node that it speaks to: of it nothing travels but its patience.

    `fanout` servers are raced for the first token; `continues` lets another server go on where one broke; a second
    request with the same `idempotency_key` gets the first one's answer. `tenant` tells clients apart by the API key or,
    unreadably, by the other credential that they came with; `key` is the public id of an API key, "" for none.
    `first_token_s` and `silence_s`: how long it waits for the first token, the queue included, and in mid-stream; None
    where it leaves that to its node.
    """

    fanout: int = 1
    continues: bool = False
    idempotency_key: str = ""
    tenant: str = ""
    key: str = ""
    first_token_s: float | None = None
    silence_s: float | None = None


NO_WISHES = Wishes()


@dataclass(frozen=True, slots=True)
class Demands:
    """What is asked of a server besides what the body needs.

    `quant_bits`: least tier of `model.quant`, 0 for any. `most_price_micro`: of a million tokens, in millionths; None
    for any. `own_machines`: only where the requester's owner owns the machine.
    """

    quant_bits: int = 0
    most_price_micro: int | None = None
    own_machines: bool = False

    def both(self, other: Demands) -> Demands:
        """What meets the one and the other."""
        prices = [p for p in (self.most_price_micro, other.most_price_micro) if p is not None]
        return Demands(
            max(self.quant_bits, other.quant_bits), min(prices, default=None), self.own_machines or other.own_machines
        )


NO_DEMANDS = Demands()


@dataclass(frozen=True, slots=True)
class Job:
    """One request and its envelope.

    `deadline` is on this node's monotonic clock, in seconds; between nodes only what remains of it travels.
    `target` is the server that the origin chose (None before it chose). `path` lists the nodes the job has passed,
    origin first, without this one. `attempt` counts from 1 and fences late frames of older attempts. `privacy` is what
    the client asked for, None where it leaves that to its node. `demands` stay with the origin, who chooses.
    `at_once`: where its server has no slot for it now, it is not to wait for one. `proven`: it came over relays, and
    its origin's signature stands behind `owner` (trust.claim).
    """

    id: str
    route: str
    body: bytes
    facts: Facts
    origin: NodeId
    deadline: float
    attempt: int = 1
    target: NodeId | None = None
    hops_left: int = 4
    path: tuple[NodeId, ...] = ()
    label: Label = Label.INTERNAL
    privacy: Privacy | None = None
    priority: Priority = Priority.NORMAL
    owner: str = ""
    traceparent: str = ""
    wishes: Wishes = NO_WISHES
    demands: Demands = NO_DEMANDS
    at_once: bool = False
    proven: bool = False
