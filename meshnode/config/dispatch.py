"""Section `dispatch`: how long things may take, and how often they are tried. requests.md §3."""

from __future__ import annotations

from dataclasses import dataclass

from meshnode.config.types import Positive, Seconds, Share, Whole


@dataclass(frozen=True, slots=True)
class DispatchSection:
    # First token, the queue included: a cold 70B model on a slow disk loads within it.
    first_token_s: Seconds = 900.0
    # Silence within a stream.
    silence_s: Seconds = 300.0
    # A non-streaming answer, whole.
    whole_s: Seconds = 600.0
    # Other servers tried after the first.
    retries: Whole = 2
    # Hops a job may still take; the protocol's most is 8.
    hops: Positive = 4
    # How much longer than the best peer's this node's own engine may be predicted to take and still win.
    local_margin: Share = 0.25
    local_patience_s: Seconds = 2.0
    # Seen jobs remembered against loops and duplicates.
    seen_jobs: Positive = 65_536
    seen_s: Seconds = 900.0
