"""A long run through the real admission machine in virtual time: waits by tier, fair shares, the owner's wait, CPU.

`python -m benchmarks.admission` does 10^6 jobs. Not for sockets, engines or the whole node (__main__).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

from meshnode.model.job import Priority
from meshnode.slots import Admission, Ask, Granted, Leave, Terms

OWNER = "owner:ann"
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Demand:
    """Eight other owners, each with `in_hand` requests all the time, of 1 to 16 s; the machine's owner now and then. Of
    the slots one is the owner's. In one tier the owners' shares can be compared, in three the waits."""

    jobs: int = 1_000_000
    seed: int = 1
    slots: int = 4
    owners: int = 8
    own_share: float = 0.1
    in_hand: int = 3
    ageing_s: float = 30.0
    tiers: tuple[Priority, ...] = tuple(Priority)


@dataclass
class Found:
    ended: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    granted: Counter[Priority] = field(default_factory=Counter)
    longest_s: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))
    summed_s: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))
    passed_deadline: int = 0
    work_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    owner_late_s: float = 0.0
    most_accounts: int = 0
    cpu_s: float = 0.0

    @property
    def shares_apart(self) -> float:
        """The most work that one of the other owners got, over the least."""
        works = [work for owner, work in self.work_s.items() if owner != OWNER]
        return max(works) / min(works)


class _Run:
    def __init__(self, demand: Demand) -> None:
        self.demand, self.rng, self.found, self.now = demand, Random(demand.seed), Found(), 0.0
        self.admission = Admission(demand.slots, 1000, demand.ageing_s, terms=Terms(OWNER, first=True, reserved=1))
        self.asked: dict[str, tuple[Ask, float, float, float]] = {}
        self.ends: list[tuple[float, str]] = []
        self.running: dict[str, float] = {}
        self.own_waiting = 0
        self.in_hand = [0] * demand.owners
        self.names = map(str, itertools.count())

    def handle(self, event: Ask | Leave) -> None:
        began = time.perf_counter()
        commands = self.admission.handle(event, self.now)
        self.found.cpu_s += time.perf_counter() - began
        for command in commands:
            ask, at, takes_s, free_at = self.asked[command.ticket]
            self.own_waiting -= ask.owner == OWNER
            if isinstance(command, Granted):
                self.grant(ask, at, takes_s, free_at)
            else:
                self.found.refused[command.reason] += 1
                self.over(command.ticket)

    def over(self, ticket: str) -> None:
        owner = self.asked.pop(ticket)[0].owner
        self.found.ended += 1
        if owner != OWNER:
            self.in_hand[int(owner.partition(":")[2])] -= 1

    def grant(self, ask: Ask, at: float, takes_s: float, free_at: float) -> None:
        waited_s, found = self.now - at, self.found
        found.granted[ask.priority] += 1
        found.summed_s[ask.priority] += waited_s
        found.longest_s[ask.priority] = max(found.longest_s[ask.priority], waited_s)
        found.passed_deadline += self.now > ask.deadline
        found.work_s[ask.owner] += takes_s
        if ask.owner == OWNER:
            found.owner_late_s = max(found.owner_late_s, self.now - free_at)
        self.running[ask.ticket] = self.now + takes_s
        heapq.heappush(self.ends, (self.now + takes_s, ask.ticket))

    def ask(self, owner: str, takes_s: float) -> None:
        ticket = next(self.names)
        ask = Ask(ticket, self.now + PATIENCE_S, self.rng.choice(self.demand.tiers), owner)
        # Until when one waits for the slot that is free first; only where none of the owner's own waits before.
        free_at = min(self.running.values(), default=self.now) if owner == OWNER and not self.own_waiting else 1e18
        self.own_waiting += owner == OWNER
        self.asked[ticket] = (ask, self.now, takes_s, free_at)
        self.handle(ask)

    def step(self) -> None:
        """Demand is above what there is: a request ends, and others come."""
        for number in range(self.demand.owners):
            for _ in range(self.demand.in_hand - self.in_hand[number]):
                self.in_hand[number] += 1
                self.ask(f"owner:{number}", 2.0 ** (number % 5))
        if self.rng.random() < self.demand.own_share:
            self.ask(OWNER, self.rng.uniform(0.5, 8.0))
        self.now, ticket = heapq.heappop(self.ends)
        del self.running[ticket]
        self.over(ticket)
        self.handle(Leave(ticket))
        self.found.most_accounts = max(self.found.most_accounts, self.admission.owners)


def run(demand: Demand) -> Found:
    """Until so many jobs have ended."""
    going = _Run(demand)
    while going.found.ended < demand.jobs:
        going.step()
    return going.found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.admission")
    parser.add_argument("--jobs", type=int, default=Demand.jobs)
    parser.add_argument("--seed", type=int, default=Demand.seed)
    options = parser.parse_args()
    found = run(Demand(options.jobs, options.seed))
    print(f"{found.ended} jobs, refused {dict(found.refused)}, {1e6 * found.cpu_s / found.ended:.1f} us of CPU a job")
    for tier in Priority:
        served, longest_s = found.granted[tier], found.longest_s[tier]
        mean_s = found.summed_s[tier] / max(1, served)
        print(f"{tier.name.lower():7} {served:8} served, waited {mean_s:6.1f} s, {longest_s:6.1f} s at most")
    print(f"the machine's owner waited {found.owner_late_s:.6f} s longer than for one slot, at most")
    for ageing_s, word in ((1e9, "without ageing"), (Demand.ageing_s, "with waits beyond the ageing")):
        one = (Priority.NORMAL,)
        found = run(Demand(options.jobs // 10, options.seed, in_hand=10, tiers=one, ageing_s=ageing_s))
        apart = f"{found.shares_apart:.2f} between most and least; accounts at most {found.most_accounts}"
        print(f"work of owners {word}: {apart}")


if __name__ == "__main__":
    main()
