"""What goes wrong, when and for how long: words of a scenario that can be written down, read back and left out.

`kind@at+for:nodes=value`, several joined by `;`. Not for doing it (world.py).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

KINDS = {
    # The network. Value: a share of packets or frames; for a partition the share cut off where no nodes are named.
    "loss": "packets are lost and sent again: delay",
    "drop": "gossip frames vanish: an outbox ran over",
    "duplicate": "gossip frames arrive twice",
    "cut": "nothing passes between two nodes",
    "oneway": "nothing passes from the first to the second",
    "partition": "the nodes are cut off from all others",
    # Nodes. Without a length they stay away.
    "crash": "the process dies; its host says so",
    "poweroff": "the machine dies and says nothing",
    "forget": "like a crash, and the incarnation is lost",
    "cull": "this share of all nodes is switched off",
    "freeze": "the process stands still",
    "slow": "everything takes `value` times as long",
    "leave": "the node says farewell",
    "jump": "its monotonic clock jumps ahead by `value` seconds",
    "drift": "its clock runs at `value` times the speed",
    # Byzantine nodes.
    "liar": "claims to be idle, fast and free, and is slow",
    "equivocate": "signs two adverts of one order",
    "clone": "runs twice under one key; the second one has counted `value` starts more",
    "flood": "sends more gossip than anybody may (0: strangers, 1: forged, 2: garbage, 3: its own)",
    "blackhole": "takes jobs and never answers",
    "replay": "sends the adverts of others again when they are over",
    # No fault: something to measure by.
    "change": "the node says something new; who has heard is timed",
}

BYZANTINE = frozenset({"liar", "equivocate", "clone", "flood", "blackhole", "replay"})

_FORM = re.compile(r"([a-z]+)@([0-9.]+)(?:\+([0-9.]+))?(?::([0-9.]+))?(?:=([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `for_s` None: it does not end."""

    kind: str
    at_s: float
    for_s: float | None = None
    nodes: tuple[int, ...] = ()
    value: float = 0.0

    def __str__(self) -> str:
        length = f"+{self.for_s:.9g}" if self.for_s is not None else ""
        nodes = ":" + ".".join(map(str, self.nodes)) if self.nodes else ""
        return f"{self.kind}@{self.at_s:.9g}{length}{nodes}" + (f"={self.value:.9g}" if self.value else "")

    @property
    def until(self) -> float:
        """When it is over, as far as it ends."""
        return self.at_s + (self.for_s or 0.0)


def write(faults: list[Fault]) -> str:
    """The scenario as a word for the command line."""
    return ";".join(map(str, faults)) or "none"


def read(text: str) -> list[Fault]:
    """The scenario that `write` wrote. Raises ValueError."""
    return [] if text in ("", "none") else [_read_one(part) for part in text.split(";")]


def _read_one(text: str) -> Fault:
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in KINDS:
        raise ValueError(f"no fault: {text!r}; known are {', '.join(KINDS)}")
    nodes = tuple(int(number) for number in found[4].split(".")) if found[4] else ()
    length = float(found[3]) if found[3] is not None else None
    return Fault(found[1], float(found[2]), length, nodes, float(found[5] or 0))


START_S = 3.0
"""By then everybody knows everybody."""

SHORT_S, LONG_S = 13.0, 34.0
"""When seeded faults are over; a frozen node's 30 s fit into the longer one."""

LONG_SHARE = 0.125
"""Of the seeds."""

_WEATHER = ("loss", "loss", "drop", "duplicate")
_SHARES = (0.02, 0.1, 0.2, 0.3)
_USUAL = ("cut", "oneway", "partition", "crash", "poweroff", "forget", "freeze", "slow", "jump", "drift", "leave")


def menu(seed: int, nodes: int) -> list[Fault]:
    """The faults of a seed: weather, some that befall nodes and links, up to two Byzantine nodes, and changes."""
    rng = random.Random(f"faults {seed} {nodes}")
    stop = LONG_S if rng.random() < LONG_SHARE else SHORT_S
    found = [Fault("change", START_S - 1.0, None, (rng.randrange(nodes),))]
    for kind in rng.sample(_WEATHER, rng.randrange(3)):
        found.append(Fault(kind, START_S, stop - START_S, (), rng.choice(_SHARES)))
    for _ in range(rng.randint(2, 7)):
        found.append(_one(rng.choice(_USUAL), rng, nodes, stop))
    for kind in rng.sample(sorted(BYZANTINE), rng.choice((0, 0, 1, 2))):
        found.append(_byzantine(kind, rng, nodes))
    found.append(Fault("change", stop + 1.0, None, (rng.randrange(nodes),)))
    return sorted(found, key=lambda fault: fault.at_s)


def _one(kind: str, rng: random.Random, nodes: int, stop: float) -> Fault:
    at_s = round(rng.uniform(START_S, stop - 4.0), 2)
    for_s = round(rng.uniform(2.0, stop - at_s), 2)
    some = tuple(rng.sample(range(nodes), 2))
    match kind:
        case "cut" | "oneway":
            return Fault(kind, at_s, for_s, some)
        case "partition":
            return Fault(kind, at_s, for_s, (), round(rng.uniform(0.05, 0.5), 2))
        case "freeze":
            return Fault(kind, round(START_S + rng.random(), 2), 30.0 if stop == LONG_S else for_s, some[:1])
        case "crash" | "poweroff" | "forget":
            return Fault(kind, at_s, for_s if kind == "forget" or rng.random() < 0.7 else None, some[:1])
        case "slow":
            return Fault(kind, at_s, for_s, some[:1], 20.0)
        case "jump":
            return Fault(kind, at_s, None, some[:1], round(rng.uniform(1.0, 90.0), 1))
        case "drift":
            return Fault(kind, at_s, for_s, some[:1], rng.choice((0.8, 0.95, 1.05, 1.25)))
    return Fault(kind, at_s, None, some[:1])


def _byzantine(kind: str, rng: random.Random, nodes: int) -> Fault:
    number = (rng.randrange(nodes),)
    if kind in ("liar", "blackhole"):
        return Fault(kind, 0.0, None, number)
    at_s = round(rng.uniform(START_S, START_S + 5.0), 2)
    if kind == "flood":
        return Fault(kind, at_s, round(rng.uniform(4.0, 10.0), 2), number, rng.randrange(4))
    if kind == "clone":
        # A copied home counts on from where it was copied, or, where clocks are right, from further on.
        return Fault(kind, at_s, None, number, number[0] % 3)
    return Fault(kind, at_s, None, number)
