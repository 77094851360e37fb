"""Section `gossip`: how adverts spread. protocol.md §5 gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from meshnode.config.types import Positive, Seconds

# A period of nothing would keep the machine awake for ever.
Period = Annotated[float, Meta(ge=0.1, le=86_400)]
# What an advert can say of its lifetime, in seconds.
Lifetime = Annotated[float, Meta(ge=1, le=86_400)]


@dataclass(frozen=True, slots=True)
class GossipSection:
    # How long an advert lives without a newer one, and how often it is renewed (± 10 %).
    lifetime_s: Lifetime = 180.0
    refresh_s: Period = 60.0
    # Anti-entropy with one random neighbour.
    anti_entropy_s: Period = 5.0
    # Own changes within this time become one advert: a burst of links is one change.
    settle_s: Seconds = 0.1
    # Adverts accepted per node: a bucket of `burst` refilled one per `refill_s`; a joining node changes a few times.
    advert_burst: Positive = 16
    advert_refill_s: Seconds = 1.0
    # Signature checks per second and link; 62 µs each.
    verifications_per_s: Positive = 200
    # Nodes known at once; as many again are remembered after they left or fell silent. 64 MiB at 4 KiB each.
    nodes: Positive = 16_384
    # Tombstones are kept this long, so that nobody dead is resurrected.
    tombstone_s: Lifetime = 86_400.0
