"""Gossip, overlay, links and tunnels of one membership as numbers for `/metrics`, read when somebody asks.

Labels are words of ours, never a peer's: however large or hostile the mesh, the page keeps its size. Counters begin
anew with another membership, as after a start. Not for what each peer is (front.overview).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshnode.observe.metrics import Family

if TYPE_CHECKING:
    from meshnode.mesh.mesh import Mesh

VERDICTS = ("suspected", "cleared", "dead", "convicted", "violation")
"""What the gossip machine finds out about neighbours, by the names of its commands."""


def read(mesh: Mesh) -> Iterator[Family]:
    """Everything."""
    yield from _gossip(mesh)
    yield from _links(mesh)
    yield from _tunnels(mesh)


def _gossip(mesh: Mesh) -> Iterator[Family]:
    adverts, gossiper = mesh.gossip.counts, mesh.gossiper
    rejected = {reason: float(adverts[reason]) for reason in mesh.gossip.reasons}
    yield Family("meshnode_gossip_adverts", "Adverts of others that were news.", "counter", "", {"": adverts["news"]})
    yield Family("meshnode_gossip_rejected", "Adverts that were not taken, by reason.", "counter", "reason", rejected)
    yield Family(
        "meshnode_gossip_rounds", "Rounds of anti-entropy begun here.", "counter", "", {"": mesh.gossip.rounds}
    )
    verdicts = {word: float(gossiper.counts[word]) for word in VERDICTS}
    yield Family("meshnode_gossip_verdicts", "Findings about neighbours.", "counter", "verdict", verdicts)
    yield Family("meshnode_gossip_sent_bytes", "Gossip frames handed to links.", "counter", "",
                 {"": gossiper.counts["sent_bytes"]})  # fmt: skip
    yield Family("meshnode_gossip_dropped", "Gossip frames that a neighbour did not take in time.", "counter", "",
                 {"": gossiper.counts["dropped"]})  # fmt: skip


def _links(mesh: Mesh) -> Iterator[Family]:
    links, suspected = mesh.peers.links, mesh.gossiper.suspected
    states = {"up": 0, "suspected": 0, "draining": 0}
    for peer, link in links.items():
        states["draining" if link.draining else "suspected" if peer in suspected else "up"] += 1
    yield Family("meshnode_links_by_state", "Links to neighbours, by state.", "gauge", "state", states)
    streams = sum(link.streams for link in links.values())
    yield Family("meshnode_link_streams", "Streams open on links to neighbours.", "gauge", "", {"": streams})
    trips = sorted(link.rtt_s for link in links.values() if link.rtt_s is not None)
    if trips:
        of = {"least": trips[0], "median": trips[len(trips) // 2], "most": trips[-1]}
        yield Family("meshnode_link_rtt_seconds", "Round trips of the links that are up.", "gauge", "which", of)
    kinds = {"direct": mesh.traffic, "sealed": mesh.sealed_traffic}
    for name, text, counted in (
        ("meshnode_links_made", "Links made.", "made"),
        ("meshnode_link_received_bytes", "Bytes received; sealed ones count as direct too.", "received_bytes"),
        ("meshnode_link_sent_bytes", "Bytes sent; sealed ones count as direct too.", "sent_bytes"),
        ("meshnode_link_rekeys", "New keys made inside links.", "rekeyed"),
    ):  # fmt: skip
        values = {kind: float(getattr(traffic, counted)) for kind, traffic in kinds.items()}
        yield Family(name, text, "counter", "kind", values)


def _tunnels(mesh: Mesh) -> Iterator[Family]:
    ends = {"opened": 0, "accepted": 0}
    for life in mesh.tunnels.lives:
        ends["opened" if life.opened else "accepted"] += 1
    yield Family("meshnode_tunnels", "Sealed links that end at this node.", "gauge", "end", ends)
    relay = mesh.tunnels.relay
    yield Family("meshnode_tunnels_relayed_now", "Tunnels of others that pass here.", "gauge", "", {"": len(relay)})
    yield Family("meshnode_tunnels_relayed", "Tunnels of others that passed here.", "counter", "", {"": relay.carried})
    yield Family("meshnode_tunnel_relayed_bytes", "Bytes of others' tunnels passed on.", "counter", "",
                 {"": relay.carried_bytes})  # fmt: skip
