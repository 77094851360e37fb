"""Section `front`: the HTTP door that tools speak to."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Bytes, Positive, Seconds


@dataclass(frozen=True, slots=True)
class FrontSection:
    # Loopback, so that only this machine's own tools reach it. 6374 is MESH on a telephone's keys.
    api: str = "127.0.0.1:6374"
    # Whether an address that other machines reach may be listened on, unencrypted; API keys are needed there besides.
    # Off, so that nobody opens it by a slip.
    open_to_network: bool = False
    # Whether an API key is needed even while there is none. Off, since the first key that is made turns it on, and a
    # newcomer's tools on this machine have none.
    require_key: bool = False
    # Host headers accepted beyond loopback names and the bind address (DNS rebinding, reliability.md T17).
    allowed_hosts: tuple[str, ...] = ()
    # Web origins that may call from a browser; none, since a page in a browser is not the user.
    allowed_origins: tuple[str, ...] = ()
    # Largest request body; a long context with a few images fits.
    body_limit_bytes: Bytes = 32 * 1024 * 1024
    # Time for the body to arrive whole; at least 1 KiB/s for the largest ordinary prompt.
    body_timeout_s: Seconds = 30.0
    # Time for a request head; slow-loris clients are cut here.
    header_timeout_s: Seconds = 5.0
    # Connections in all, and from one address: a local tool needs a handful, a bench a few hundred.
    connections: Positive = 1024
    connections_per_address: Positive = 1024
    # A client that takes no bytes for this long is gone (measured: Hypercorn alone waits for ever).
    write_timeout_s: Seconds = 30.0
    # Between keepalive comments; 15 s is what clients and proxies tolerate at most (B5).
    keepalive_s: Seconds = 10.0
    # Idle time of a kept-alive connection.
    idle_timeout_s: Seconds = 75.0
    # Accept queue: 100 gave 1 s connect stalls at 200 clients.
    backlog: Positive = 4096
    # Deadline of a request that names none (`x-meshnode-timeout`): whole answers as dispatch.whole_s; streams may wait
    # for a first token as long as dispatch.first_token_s lets them and then write for three quarters of an hour.
    whole_deadline_s: Seconds = 600.0
    stream_deadline_s: Seconds = 3600.0
