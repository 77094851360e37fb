"""Section `mesh`: which mesh, how it is reached, and the limits of its links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from meshnode.config.types import Bytes, Positive, Seconds, Whole

# What HTTP/2 grants before it is told otherwise (RFC 9113 §6.9.2): less would be exceeded before a peer knows.
Window = Annotated[int, Meta(ge=65_535, le=2**31 - 1)]


@dataclass(frozen=True, slots=True)
class MeshSection:
    # Where links are accepted; every interface, IPv4 and IPv6, since a mesh of one machine is none. "none": only dial.
    listen: str = ":6375"
    # Who is believed: members with a certificate of the mesh; only those of them that are pinned too; or, for a quick
    # start on one's own LAN, whoever has the secret file, each name kept to the key first seen under it.
    trust: Literal["ca", "pinned", "psk-tofu"] = "ca"
    # Node ids pinned from the start (`meshnode peers trust` adds to them).
    pinned: tuple[str, ...] = ()
    # Peers dialled whatever gossip says.
    peers: tuple[str, ...] = ()
    # Addresses to advertise instead of those found on this machine's interfaces.
    advertise: tuple[str, ...] = ()
    # Whether addresses learned by gossip are dialled; off on networks where only named peers may be reached.
    dial_learned: bool = True
    # Whether nodes of this mesh on the LAN are found by multicast DNS; off where multicast is unwelcome.
    mdns: bool = True
    # Interfaces it speaks on; empty: those with private addresses, without bridges and tunnels.
    mdns_interfaces: tuple[str, ...] = ()
    # Addresses heard by multicast at once, and new ones a second: they are hints that anybody may send.
    hints: Positive = 256
    hints_per_s: Positive = 5
    # Dials under way at once: a node that lost a hundred links at once does not open a hundred connections at once.
    dials: Positive = 16
    # Whether this node forwards other nodes' requests.
    relay: bool = True
    # How requests of this node pass relays: in a tunnel that only their server can open, or readable by each relay,
    # which may then know a better server. A request's own header x-meshnode-privacy goes first.
    relay_class: Literal["sealed", "open"] = "sealed"
    # Tunnels of others through this node: each may hold two stream windows each way, so that 256 hold at most 256 MiB,
    # and half of them may come from one neighbour.
    tunnels: Positive = 256
    # Of one origin: it keeps one to each server, and no more than 64.
    tunnels_per_origin: Positive = 64
    # Tunnels of this node that are kept between uses; the one unused longest ends first.
    tunnels_kept: Positive = 64
    # An unused tunnel ends after so long: a conversation has pauses, and opening anew costs a handshake.
    tunnel_idle_s: Seconds = 600.0
    # A handshake that takes longer is a scanner or a dead path.
    handshake_timeout_s: Seconds = 5.0
    # Connections in handshake at once: each costs two Diffie-Hellman operations and a task.
    half_open: Positive = 64
    # New connections per second and address (burst 5): a node behind one address dials again and again for minutes
    # without notice, a flood from one machine does not take every half-open place. Faster than that, they take turns.
    handshakes_per_s: Positive = 20
    handshake_burst: Positive = 5
    # TCP connect: a LAN answers in milliseconds, the far side of the world in 0.3 s.
    dial_timeout_s: Seconds = 2.0
    # Re-dial back-off: from, to. Jittered, so that a restarted switch is not met by everyone at once.
    redial_min_s: Seconds = 0.5
    redial_max_s: Seconds = 60.0
    # Link keys are made anew after so long (or 2^32 messages, or 64 GiB): what a stolen key opens is bounded.
    rekey_s: Seconds = 3600.0
    # A peer that broke the protocol is shut out so long, twice as long each time, up to the second.
    quarantine_s: Seconds = 60.0
    quarantine_max_s: Seconds = 3600.0
    # Liveness: a ping each, dead after so many unanswered.
    ping_s: Seconds = 5.0
    ping_misses: Positive = 3
    # Streams each way on one link, unread bytes of one stream, of all streams together in flight.
    streams: Positive = 1024
    stream_window_bytes: Window = 256 * 1024
    link_window_bytes: Window = 4 << 20
    # Unread bytes of one link in all; above it the stream that has been unread longest is cancelled.
    link_buffer_bytes: Bytes = 8 << 20
    # Streams a peer may cancel within their first second: a full table at once, then so many a minute (more while
    # others end well). A peer that opens and cancels without end (CVE-2023-44487) makes work for nothing.
    resets_per_min: Positive = 200
    # SETTINGS, PING and empty frames: a link in order needs about 15 a minute.
    control_frames_per_min: Positive = 1000
    # A stream that may not send for so long is cancelled: a client that stopped reading must not hold a slot.
    credit_timeout_s: Seconds = 30.0
    # Bytes waiting to be written on one link before its producers wait.
    write_buffer_bytes: Bytes = 1 << 20
    # Up to this many nodes everyone is linked to everyone (protocol.md §5).
    full_mesh_nodes: Whole = 16
    # Above it: links each node keeps, whoever dialled; HyParView's active view is log10(n) + 1, doubled for 10,000
    # nodes, because a third of them may go at once.
    active_links: Whole = 8
    # Of these, links it chose and dialled itself: whoever fills the others (eclipse) does not fill these.
    chosen_links: Whole = 4
    # Nodes at hand to choose from, a random sample; three losses in four still leave two views' worth.
    passive_nodes: Positive = 64
    # Between two looks at the links, at which a chosen one may be exchanged for another: so the graph keeps mixing.
    swap_s: Seconds = 30.0
    # Nodes of which each exchanges one at every look; of more, as many in all. An exchange is about four new adverts,
    # and everybody is told of each: 16 a look are two adverts a second, as many as 128 nodes' own renewals.
    swap_nodes: Positive = 16
    # Links it did not choose; of more, some are closed. Where all choose at random, 10,000 nodes have 15 at most.
    accepted_links: Positive = 16
