"""Load told every two seconds, requests in between: no server is rushed because it looked free a moment ago.

Where only told load counted, everything would go to whoever was free at the last word, and to others after the next.
"""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

from meshnode.routing import Flight, Router
from meshnode.slots import Load
from tests.routing.build import NOTHING, job, node, router, star

SERVERS = 8
SLOTS = 4
SERVICE_S = 2.0
PERIOD_S = 2.0
PERIODS = 30
LOAD = 0.8
STREAM_TOKENS = 50


class Service:
    """Servers with so many slots and a queue; what they tell of their load is `PERIOD_S` old at worst."""

    def __init__(self, seed: int) -> None:
        self.router: Router = router()
        self.rng = Random(seed)
        self.free_at = {number: [0.0] * SLOTS for number in range(1, SERVERS + 1)}
        self.under_way: list[tuple[float, int, Flight]] = []
        self.waits_s: list[float] = []

    def ask(self, now: float) -> int:
        attempt = self.router.plan(job(prompt_tokens=500), star_view, NOTHING, self.rng, now).attempts[0]
        number = attempt.node[1]
        flight = self.router.started(attempt, 500, now)
        slots = self.free_at[number]
        begins = max(now, heapq.heappop(slots))
        heapq.heappush(slots, begins + SERVICE_S)
        self.waits_s.append(begins - now)
        heapq.heappush(self.under_way, (begins + SERVICE_S, len(self.waits_s), flight))
        return number

    def pass_time(self, now: float) -> None:
        while self.under_way and self.under_way[0][0] <= now:
            at, _, flight = heapq.heappop(self.under_way)
            self.router.first_token(flight, at - 1.0)
            self.router.finished(flight, STREAM_TOKENS, at)

    def tell(self, now: float) -> None:
        for number, slots in self.free_at.items():
            busy = sum(at > now for at in slots)
            wait_s = max(0.0, min(slots) - now)
            self.router.reported(node(number), "llama", Load(SLOTS - busy, busy, 0, wait_s), now)


star_view = star(SERVERS, changes={n: {} for n in range(1, SERVERS + 1)})


def test_between_two_words_on_load_no_server_is_rushed() -> None:
    service = Service(seed=3)
    gap_s = SERVICE_S / (SERVERS * SLOTS * LOAD)
    shares: list[float] = []
    now = 0.0
    for _ in range(PERIODS):
        chosen: Counter[int] = Counter()
        until = now + PERIOD_S
        service.tell(now)
        while now < until:
            service.pass_time(now)
            chosen[service.ask(now)] += 1
            now += gap_s
        shares.append(max(chosen.values()) * SERVERS / chosen.total())
    settled = shares[5:]
    assert max(settled) < 2.0, "the most that one server got, in units of an equal share"
    assert sorted(service.waits_s)[int(0.99 * len(service.waits_s))] < 2 * SERVICE_S
