"""Section `gossip`: how adverts spread, and when a silent neighbour is given up. protocol.md §5 gives the reasons."""

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
    # Links that change again are told so long after the last time, and each time twice as long, up to the second
    # figure: a loss and the link dialled in its place are one change, and so are the many of a cable that is cut.
    links_s: Seconds = 2.0
    links_max_s: Seconds = 8.0
    # Adverts accepted per node: a bucket of `burst` refilled one per `refill_s`; a joining node changes a few times.
    advert_burst: Positive = 16
    advert_refill_s: Seconds = 1.0
    # Signature checks per second and link; 62 µs each.
    verifications_per_s: Positive = 200
    # Nodes known at once; as many again are remembered after they left or fell silent. 64 MiB at 4 KiB each.
    nodes: Positive = 16_384
    # Tombstones are kept this long, so that nobody dead is resurrected.
    tombstone_s: Lifetime = 86_400.0
    # A neighbour is probed once a period and is to answer within the time-out: on a LAN, a hundred round trips.
    probe_s: Period = 1.0
    probe_timeout_s: Period = 0.5
    # The same over a WAN: room for a path that was cut and mended, and for TCP to send a lost segment three times.
    wan_probe_s: Period = 5.0
    wan_probe_timeout_s: Period = 3.0
    # A neighbour whose shortest round trip of late is above this is probed as over a WAN: no LAN is so slow.
    wan_round_trip_s: Seconds = 0.1
    # Neighbours probed per period; with more, each is probed less often, so that chatter stays bounded.
    probed: Positive = 16
    # Others asked to try a neighbour that does not answer (SWIM's k): one of three has a path that works.
    helpers: Positive = 3
    # A suspicion lasts this many periods, times log10 of the nodes where those are more than ten (memberlist's 4).
    suspicion_periods: Positive = 4
    # A neighbour that others reach keeps its silent link this long, as long as `mesh.ping_s` and `ping_misses` give it.
    silent_s: Period = 15.0
    # Who signed two adverts of one order is put aside this long: an operator's time to find the second copy of a key.
    conviction_s: Lifetime = 3600.0
    # Nodes put aside at once: more than ever cheat together, at most 8 KiB of proof each.
    convicts: Positive = 256
