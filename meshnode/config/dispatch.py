"""Section `dispatch`: how long things may take, and how often they are tried. requests.md §3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from meshnode.config.types import Bytes, Positive, Seconds, Share, Whole

# What nodes let a job take (protocol.md §6): one that asks for more is refused by all of them.
Hops = Annotated[int, Meta(ge=1, le=8)]


@dataclass(frozen=True, slots=True)
class DispatchSection:
    # Until there is a way to the server: a tunnel through relays is three round trips, the far side of the world 0.3 s.
    connect_s: Seconds = 2.0
    # First token, the queue included: a cold 70B model on a slow disk loads within it.
    first_token_s: Seconds = 900.0
    # Silence within a stream.
    silence_s: Seconds = 300.0
    # A non-streaming answer, whole.
    whole_s: Seconds = 600.0
    # Other servers tried after the first.
    retries: Whole = 2
    # Retries, as a share of the requests of the last seconds, so that a mesh in trouble is not asked many times over;
    # a node with little to do may still retry once a second.
    retry_share: Share = 0.2
    retry_window_s: Seconds = 10.0
    retry_floor_per_s: Seconds = 1.0
    # Servers asked besides those that say nothing, while another has a slot to spare, as a share of the same requests:
    # they are asked for a slot at once or a refusal, so that they fill nothing, and more than half of all hardly hang.
    doubt_share: Share = 0.5
    # Before the same server is asked again, or another when all so far were full: doubling, and by lot from half to
    # one and a half of it, so that those whom one failure met do not come back together.
    backoff_s: Seconds = 0.1
    # Requests that a second server may be asked for in case it is quicker, as a share of all; how large their prompt
    # may be; what the first is given to answer (of its usual times, this share is quicker); and the share of busy slots
    # above which nobody is asked twice.
    hedge_share: Share = 0.02
    hedge_prompt_tokens: Whole = 1024
    hedge_quantile: Share = 0.95
    hedge_load: Share = 0.7
    # Without an answer for so many times what was predicted, and at least so long, a server may hang: another is asked
    # besides, and the first answer wins. Predictions of a first request are off by a few times.
    hang_factor: Positive = 4
    hang_s: Seconds = 10.0
    # The same of a server whose times are known (measured here, told in its advert, or measured of others that have the
    # model), while another has a slot to spare; the second one has half of it: who meets two that hang waits less
    # than 3 s.
    hang_known_s: Seconds = 1.2
    # Hops a job may still take; the protocol's most is 8.
    hops: Hops = 4
    # How much longer than the best peer's this node's own engine may be predicted to take and still win.
    local_margin: Share = 0.25
    local_patience_s: Seconds = 2.0
    # What is told of the last requests (`meshnode why`): how many, and what they may take in memory. It is enough for
    # every candidate of all of them up to 16 servers of a model, and of the newest 300 where a decision looks at 60.
    journal: Positive = 1000
    journal_bytes: Bytes = 16 << 20
    # What answers that several clients read may hold in memory, in all and each: long answers have 100 KB, as events
    # 1 MB; who reads more slowly than others by more than that gets an error.
    shared_bytes: Bytes = 32 << 20
    shared_stream_bytes: Bytes = 1 << 20
    # Idempotency keys: how long after the answer's end, as payment services do it for shorter work; and how many, of
    # which no client has more than are free.
    idempotency_s: Seconds = 600.0
    idempotency_keys: Positive = 8192
    # Seen jobs remembered against loops and duplicates.
    seen_jobs: Positive = 65_536
    seen_s: Seconds = 900.0
