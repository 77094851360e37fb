"""What protocol.md §5 says that a node sends a second in the long run, from what the mesh of a run is like.

Every node renews its advert once in `refresh_s`; whoever hears a new one passes it on over all links but the one it
came over. Each round of anti-entropy begins with 256 sums. Not for what was really sent (network.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshnode.gossip.exchange import carried
from meshnode.gossip.messages import Digest, advert_frames, encode_message

if TYPE_CHECKING:
    from tests.simulation.world import World

FRAMING_BYTES = 4
"""As network.py counts them."""


@dataclass(frozen=True, slots=True)
class Expected:
    """On average over the nodes that run."""

    renewals_per_s: float = 0.0
    links: float = 0.0
    advert_bytes: float = 0.0
    digests_bytes_s: float = 0.0

    @property
    def adverts_bytes_s(self) -> float:
        """What renewals cost a node."""
        return self.renewals_per_s * max(0.0, self.links - 1.0) * self.advert_bytes


def expected(world: World) -> Expected:
    """As the mesh is now."""
    judges, section = world.judges(), world.gossip_section
    if not judges:
        return Expected()
    links = sum(len(node.links) for node in judges) / len(judges)
    sizes = [
        len(frame) + FRAMING_BYTES
        for node in judges
        for frame in advert_frames(carried([node.gossip._table.entry(node.id)], node.clock()))
    ]
    digest = len(encode_message(Digest(judges[0].gossip._table.digests.packed()))) + FRAMING_BYTES
    advert = sum(sizes) / max(1, len(sizes))
    return Expected(len(judges) / section.refresh_s, links, advert, digest / section.anti_entropy_s)
