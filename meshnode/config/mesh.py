"""Section `mesh`: which mesh, how it is reached, and the limits of its links."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Bytes, Positive, Seconds, Whole


@dataclass(frozen=True, slots=True)
class MeshSection:
    # Where links are accepted; every interface, since a mesh of one machine is none. "none": dial out only.
    listen: str = "0.0.0.0:6375"
    # Peers dialled whatever gossip says.
    peers: tuple[str, ...] = ()
    # Addresses to advertise instead of those found on this machine's interfaces.
    advertise: tuple[str, ...] = ()
    # Whether addresses learned by gossip are dialled; off on networks where only named peers may be reached.
    dial_learned: bool = True
    # Whether this node forwards other nodes' requests.
    relay: bool = True
    # A handshake that takes longer is a scanner or a dead path.
    handshake_timeout_s: Seconds = 5.0
    # Connections in handshake at once: each costs two Diffie-Hellman operations and a task.
    half_open: Positive = 64
    # New connections per second and address (burst 5): a node behind one address dials again and again for minutes
    # without notice, a flood from one machine does not take every half-open place.
    handshakes_per_s: Positive = 20
    handshake_burst: Positive = 5
    # TCP connect: a LAN answers in milliseconds, the far side of the world in 0.3 s.
    dial_timeout_s: Seconds = 2.0
    # Re-dial back-off: from, to. Jittered, so that a restarted switch is not met by everyone at once.
    redial_min_s: Seconds = 0.5
    redial_max_s: Seconds = 60.0
    # Liveness: a ping each, dead after so many unanswered.
    ping_s: Seconds = 5.0
    ping_misses: Positive = 3
    # Streams each way on one link, unread bytes of one stream, of all streams together in flight.
    streams: Positive = 1024
    stream_window_bytes: Bytes = 256 * 1024
    link_window_bytes: Bytes = 1 << 24
    # Streams a peer may cancel: a full table at once, then so many a minute (more while others end well). A peer that
    # opens and cancels without end (CVE-2023-44487) makes work for nothing.
    resets_per_min: Positive = 200
    # SETTINGS, PING and empty frames: a link in order needs about 15 a minute.
    control_frames_per_min: Positive = 1000
    # A stream that may not send for so long is cancelled: a client that stopped reading must not hold a slot.
    credit_timeout_s: Seconds = 30.0
    # Bytes waiting to be written on one link before its producers wait.
    write_buffer_bytes: Bytes = 1 << 20
    # Up to this many nodes everyone is linked to everyone (protocol.md §5).
    full_mesh_nodes: Whole = 16
