"""What the overlay machine is told and what it asks for. Not for gossip's own events (events.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId


@dataclass(frozen=True, slots=True)
class Known:
    """These are all living adverts. O(nodes): for the beginning; after it `Changed` says the same for less."""

    adverts: Mapping[NodeId, Advert]


@dataclass(frozen=True, slots=True)
class Changed:
    """What these nodes say now; None for one whose advert has ended. O(1) each, whatever the size of the mesh."""

    said: Mapping[NodeId, Advert | None]


@dataclass(frozen=True, slots=True)
class Linked:
    """A link to `peer` is up.

    `target` is the Dial's that led there, None for an accepted link; `address` the one that won, `host` the IP address
    an accepted link came from.
    """

    peer: NodeId
    target: str | NodeId | None = None
    address: str | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link to `peer` ended. `parted`: the peer had said that it would (GOAWAY)."""

    peer: NodeId
    parted: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Dialling `target` brought no link. `peer` is who answered there, where that is known."""

    target: str | NodeId
    peer: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Breached:
    """`peer` broke the protocol."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody on the LAN says that a node of this mesh is at `address`."""

    address: str


@dataclass(frozen=True, slots=True)
class Asked:
    """`peer` asks to be dialled, because it cannot dial."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Nothing shall be known of `peer` until it says something new."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Redial:
    """This machine's own addresses changed, in words: what failed before may work now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Requested:
    """A request of this node went to `peer`, over whichever path."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Condition:
    """A link as it is: round trip (None: not measured), and streams that run besides the mesh's own."""

    rtt_s: float | None = None
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to `Look`: every link that is up."""

    links: Mapping[NodeId, Condition]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Event = (
    Known
    | Changed
    | Linked
    | Unlinked
    | Failed
    | Breached
    | Heard
    | Asked
    | Forgotten
    | Redial
    | Requested
    | Looked
    | Tick
)


@dataclass(frozen=True, slots=True)
class Dial:
    """Race `addresses`; `target` is an address that was named or heard, or the node expected there.

    Each is answered by one Linked or Failed with this target.
    """

    target: str | NodeId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskToDial:
    """Ask `peer` through the mesh to dial this node."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Look:
    """Tell what the links are like, by a Looked event at once."""


@dataclass(frozen=True, slots=True)
class Shed:
    """Say goodbye on the link to `peer` (GOAWAY) and end it when its streams have, or after `within_s` seconds."""

    peer: NodeId
    within_s: float


Command = Dial | AskToDial | Look | Shed
