"""What links have carried in all, counted across their lives. Not for one link's state (link.py) nor for showing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Shared by the links of one kind. Bytes are those on the wire, handshakes before the link aside; `made` counts
    links, `rekeyed` the handshakes inside them."""

    made: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    rekeyed: int = 0
