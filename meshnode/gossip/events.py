"""What the gossip machine is told and what it asks for. Not for the wire's messages (messages.py)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshnode.gossip.facts import Facts
from meshnode.model.advert import Advert
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
class Heard:
    """Something arrived on the link to `node` that is no gossip: a sign of life all the same. Worth telling before a
    Tick, for probes may wait behind other bytes."""

    node: NodeId


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


Event = NeighbourUp | NeighbourDown | Received | Heard | Describe | Tick | Leave | Forget | Reconsider


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
class Convicted:
    """`node` signed two adverts of one order, which everybody is told. Until then, on the clock of `handle`, what it
    says is neither believed nor spread; its links are to be shut out as long. It may be this node itself: then its key
    is used twice."""

    node: NodeId
    until_s: float


@dataclass(frozen=True, slots=True)
class Suspected:
    """The link to the neighbour `node` gives no sign of life: nothing new should be sent there."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Cleared:
    """The neighbour `node` spoke: it is suspected no more."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Dead:
    """The suspicion of the neighbour `node` was not refuted in time: its link is to be closed, for `reason`."""

    node: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """The neighbour `node` told its load."""

    node: NodeId
    facts: Facts


@dataclass(frozen=True, slots=True)
class Counted:
    """This node's incarnation is that from now on, since a lost counter was found. It is to be kept before the commands
    behind this one are performed: they may hold adverts that a restart must not fall behind."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """This node's description did not fit an advert: so many models and neighbours were left out of it."""

    models: int
    neighbours: int


Command = Send | Changed | Violation | Convicted | Suspected | Cleared | Dead | Reported | Counted | Trimmed
