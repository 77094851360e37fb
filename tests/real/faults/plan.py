"""What a run does, drawn from a seed before it starts: which faults when, and which requests. Pure.

Faults are placed so that at every moment two servers of each model are well, and were for a while. Not for doing any of
it. Counterparts: lab.py performs the faults, client.py the requests, judge.py looks at what came of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

MODELS = ("red", "blue")

NODE_FAULTS = ("kill", "stop", "cut")
"""The node itself is away: `kill -9` and started again; SIGSTOP; all its links silent."""

ENGINE_FAULTS = ("refuse", "prefill", "stream", "truncated", "json", "utf8", "slow", "oom")
"""Its engine refuses, hangs before or after its first tokens, ends too soon, speaks nonsense, takes ten times as long,
or is killed and started again."""

LINK = "link"
"""The link between two nodes is closed, and no new one comes about."""

KINDS = (*NODE_FAULTS, LINK, *ENGINE_FAULTS)

SPOILS_LATER = ("stream", "truncated", "json", "utf8")
"""Faults that may show only after an answer's first tokens."""

FAULT_S = (1.0, 4.0)
"""How long one lasts."""

SETTLE_S = 2.0
"""After a fault a node is left alone, and not yet counted as well."""

SPARE = 2
"""Servers of each model that are well at any time."""

AT_ONCE = 3
"""Faults at the same time."""

PACE_S = 0.8
"""Between two faults, on average."""

CALM_S = 2.0
"""Before the first fault and after the last."""

PREFILL_S, TOKEN_S = 0.08, 0.02
"""How quick the engines are while nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`other` is the far end of a link; `at_token` the place where an answer is spoilt."""

    kind: str
    at_s: float
    for_s: float
    node: int
    other: int = -1
    at_token: int = 0

    @property
    def until_s(self) -> float:
        """When it is over, the time to settle not included."""
        return self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `pin` is the node it names, -1 for any; `leaves_s` is when its client goes away, 0 for never;
    `hopeless` if it asks for more tokens than can come in its time."""

    number: int
    at_s: float
    entry: int
    model: str
    stream: bool
    tokens: int
    deadline_s: float
    pin: int = -1
    leaves_s: float = 0.0
    hopeless: bool = False

    @property
    def name(self) -> str:
        """What its tokens are called by."""
        return f"r{self.number}"

    def text(self, tokens: int) -> str:
        """The first tokens of its answer."""
        return "".join(f"{self.name}.{index} " for index in range(tokens))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. `models` are those of each node."""

    seed: int
    models: tuple[tuple[str, ...], ...]
    faults: tuple[Fault, ...]
    asks: tuple[Ask, ...]

    @property
    def length_s(self) -> float:
        """Until the last request may be sent."""
        return max((fault.until_s for fault in self.faults), default=0.0) + CALM_S


def draw(seed: int, nodes: int, faults: int, requests: int, kinds: Sequence[str] = KINDS) -> Plan:
    """The run of this seed, with faults of these kinds, equally often."""
    rng = random.Random(seed)
    models = tuple(_models_of(node, nodes) for node in range(nodes))
    placed = tuple(_faults(rng, models, [kinds[index % len(kinds)] for index in range(faults)]))
    plan = Plan(seed, models, placed, ())
    return Plan(seed, models, placed, tuple(_asks(rng, models, requests, max(plan.length_s, requests / 40))))


def _models_of(node: int, nodes: int) -> tuple[str, ...]:
    """The first half has red, the second blue, two in the middle both."""
    half = nodes // 2
    return tuple(
        model for model, has in zip(MODELS, (node <= half, node >= half - 1), strict=True) if has
    )  # fmt: skip


def _faults(rng: random.Random, models: tuple[tuple[str, ...], ...], deck: list[str]) -> Iterator[Fault]:
    rng.shuffle(deck)
    placed: list[Fault] = []
    at_s = CALM_S
    for kind in deck:
        at_s = round(at_s + rng.uniform(0.5, 1.5) * PACE_S, 3)
        while not (free := _may_fail(models, placed, kind, at_s)):
            at_s = round(at_s + 0.1, 3)
        node = rng.choice(free)
        other = rng.choice([far for far in range(len(models)) if far != node]) if kind == LINK else -1
        at_token = rng.choice((0, 1, 3)) if kind in SPOILS_LATER else 0
        placed.append(Fault(kind, at_s, round(rng.uniform(*FAULT_S), 3), node, other, at_token))
        yield placed[-1]


def _may_fail(models: tuple[tuple[str, ...], ...], placed: list[Fault], kind: str, at_s: float) -> list[int]:
    """Nodes that a fault may befall now. One of a link may befall any: others are on the way around it."""
    if sum(fault.until_s > at_s for fault in placed) >= AT_ONCE:
        return []
    faulty = {fault.node for fault in placed if fault.kind != LINK and fault.until_s + SETTLE_S > at_s}
    if kind == LINK:
        ends = {end for fault in placed if fault.kind == LINK for end in (fault.node,) if fault.until_s > at_s}
        return sorted(set(range(len(models))) - faulty - ends)
    return [node for node in range(len(models)) if node not in faulty and _spares(models, faulty | {node})]


def _spares(models: tuple[tuple[str, ...], ...], faulty: set[int]) -> bool:
    """Whether each model has servers left."""
    well = [has for node, has in enumerate(models) if node not in faulty]
    return all(sum(model in has for has in well) >= SPARE for model in MODELS)


def _asks(rng: random.Random, models: tuple[tuple[str, ...], ...], count: int, length_s: float) -> Iterator[Ask]:
    times = sorted(rng.uniform(0.0, length_s) for _ in range(count))
    for number, at_s in enumerate(times):
        model = rng.choice(MODELS)
        kind = rng.random()
        servers = [node for node, has in enumerate(models) if model in has]
        usual = Ask(number, round(at_s, 3), rng.randrange(len(models)), model, rng.random() < 0.6,
                    rng.randint(2, 20), round(rng.uniform(6.0, 16.0), 1))  # fmt: skip
        yield _special(rng, usual, kind, servers)


def _special(rng: random.Random, usual: Ask, kind: float, servers: list[int]) -> Ask:
    """One in twenty of each: pinned, in haste, left; and one in a hundred that cannot end in time."""
    changes: dict[str, Any] = {}
    if kind < 0.05:
        changes = {"pin": rng.choice(servers)}
    elif kind < 0.10:
        changes = {"deadline_s": round(rng.uniform(4.0, 6.0), 1)}
    elif kind < 0.15:
        changes = {"leaves_s": round(rng.uniform(0.02, 0.6), 3)}
    elif kind < 0.16:
        changes = {"deadline_s": 0.6, "tokens": 60, "hopeless": True}
    return replace(usual, **changes)
