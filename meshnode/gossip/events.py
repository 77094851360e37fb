"""What the gossip machine is told and what it asks for. Not for the wire's messages (messages.py)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId


class Verdict(enum.Enum):
    """What to think of an advert, said by whoever knows keys and members."""

    GOOD = enum.auto()
    FORGED = enum.auto()
    """Not signed by its node: whoever passed it on breaks the rules."""
    UNWANTED = enum.auto()
    """Signed by its node, which is no member in this node's eyes: others may see that differently."""


@dataclass(frozen=True, slots=True)
class NeighbourUp:
    """A link to `node` is open. Told again for a link that replaced another."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NeighbourDown:
    """The link to `node` is gone."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Received:
    """One gossip frame arrived from the neighbour `frm`."""

    frm: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class Describe:
    """What this node says of itself from now on.

    `incarnation`, `sequence`, `lifetime_s` and `gone` of `advert` are ignored: the machine fills them. The first one
    sets the mesh; until then the machine neither accepts nor sends.
    """

    advert: Advert


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class Leave:
    """This node leaves the mesh for good: a tombstone is flooded and nothing is said after it."""


@dataclass(frozen=True, slots=True)
class Forget:
    """What is known of `node` shall be known no more, until it says something new."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Reconsider:
    """Who is believed has changed: what was unwanted may come again."""


Event = NeighbourUp | NeighbourDown | Received | Describe | Tick | Leave | Forget | Reconsider


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame of at most 64 KiB to a neighbour. A frame that is lost is made good by anti-entropy."""

    to: NodeId
    data: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """These nodes appeared, went, restarted, or say something else than before. A mere renewal is no change."""

    ids: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class Violation:
    """The neighbour `frm` sent what no honest node sends; nothing of it was kept."""

    frm: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Proof that `node` signed two adverts of one order. The first is kept, the second was not accepted."""

    node: NodeId
    first: SignedAdvert
    second: SignedAdvert


@dataclass(frozen=True, slots=True)
class Trimmed:
    """This node's description did not fit an advert: so many models and neighbours were left out of it."""

    models: int
    neighbours: int


Command = Send | Changed | Violation | Equivocation | Trimmed
