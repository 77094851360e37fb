"""What is asked in load.py, when, and how long it takes; and the ideal: one queue for all slots, which nobody can have.

Sizes have heavy tails, as chats have: lognormal, prompts of 500 tokens and answers of 150 in the middle, so that one in
a hundred takes some six times the time of the usual one.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from random import Random

PROMPT_TOKENS, PROMPT_SPREAD, PROMPT_MOST = 500, 1.0, 16_000
ANSWER_TOKENS, ANSWER_SPREAD, ANSWER_MOST = 150, 0.9, 3000
PREFILL_TOKENS_S = 2000.0
BEGIN_S = 0.05
DECODE_TOKENS_S = 40.0


@dataclass(frozen=True)
class Demand:
    """`servers` of `slots` each, all equal, are asked over `entries` nodes, at `load` of what they can do, for
    `seconds`, of which the first `warm_s` are not counted. `told_s`: how old what is told of a load may be. `mixed`:
    the entries serve too. `lie`: how the first server lies, if it does."""

    servers: int = 12
    slots: int = 4
    entries: int = 6
    load: float = 0.8
    seconds: float = 900.0
    warm_s: float = 60.0
    told_s: float = 2.0
    round_trip_s: float = 0.01
    patience_s: float = 300.0
    mixed: bool = False
    lie: str = ""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """`tokens` come, of `max_tokens` that the client allows (0: it says nothing)."""

    at: float
    prompt_tokens: int
    tokens: int
    max_tokens: int

    @property
    def prefill_s(self) -> float:
        """Until its first token, at a free slot."""
        return BEGIN_S + self.prompt_tokens / PREFILL_TOKENS_S

    @property
    def service_s(self) -> float:
        """How long it holds a slot."""
        return self.prefill_s + self.tokens / DECODE_TOKENS_S


def requests(demand: Demand) -> list[Request]:
    """Poisson arrivals. What they take on average is measured first, so that the load is what was meant."""
    rng = Random(f"traffic {demand.seed}")
    mean_s = sum(_drawn(0.0, rng).service_s for _ in range(20_000)) / 20_000
    rate = demand.load * demand.servers * demand.slots / mean_s
    found, at = [], rng.expovariate(rate)
    while at < demand.seconds:
        found.append(_drawn(at, rng))
        at += rng.expovariate(rate)
    return found


def _drawn(at: float, rng: Random) -> Request:
    prompt = _lognormal(PROMPT_TOKENS, PROMPT_SPREAD, PROMPT_MOST, rng)
    tokens = _lognormal(ANSWER_TOKENS, ANSWER_SPREAD, ANSWER_MOST, rng)
    return Request(at, prompt, tokens, rng.choice((0, 4096)))


def _lognormal(middle: int, spread: float, most: int, rng: Random) -> int:
    return max(1, min(most, int(middle * rng.lognormvariate(0.0, spread))))


def ideal(demand: Demand) -> tuple[list[float], list[float]]:
    """Times to the first token and to the end, where every request waits in one queue for whichever slot is free next,
    without a network between."""
    free_at = [0.0] * (demand.servers * demand.slots)
    first_s, whole_s = [], []
    for request in requests(demand):
        begins = max(request.at, free_at[0])
        heapq.heapreplace(free_at, begins + request.service_s)
        if request.at >= demand.warm_s:
            waited_s = begins - request.at
            first_s.append(waited_s + request.prefill_s)
            whole_s.append(waited_s + request.service_s)
    return first_s, whole_s


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
