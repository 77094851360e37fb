"""What was verified of each node, and whom to ask what next: one machine, fed with claims and with answers.

Nodes are asked because of what their adverts claim, so that nobody is bothered in a mesh without evidence; what they
claim is never a posture. Not for asking (mesh.vouching) nor for judging answers (attestation.py, manifest.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture

MOST_NODES = 4096
"""Nodes that claim something, at once; of more, those claimed later are not asked."""

MOST_DIGESTS = 1024
"""Digests known to be covered; the one covered longest ago goes first, and is fetched again where it is offered."""

AT_ONCE = 8
"""Questions under way: each may have to open a tunnel."""

RETRY_S = 60.0
"""After a question that got no answer, or one that did not hold; doubles up to RETRY_MOST_S."""

RETRY_MOST_S = 900.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a node's advert says: that it can be attested, the digests of its models' weights, and whether that is
    `all` it offers."""

    attested: bool
    digests: frozenset[bytes]
    all: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is something to verify."""
        return self.attested or bool(self.digests)


@dataclass(frozen=True, slots=True)
class Seen:
    """Event: every node that is a member now, and what it claims. Others are forgotten, whatever they had shown."""

    claims: Mapping[NodeId, Claim]


@dataclass(frozen=True, slots=True)
class Challenged:
    """Event: a challenge ended. `fresh_s`: for how long what was shown counts; None when nothing held."""

    node: NodeId
    fresh_s: float | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """Event: a manifest was asked for; whether one came that a trusted signer has signed for this digest."""

    node: NodeId
    digest: bytes
    covered: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Event: time has passed."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Command: ask the node for evidence."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Fetch:
    """Command: ask the node for the manifest of a digest that it offers."""

    node: NodeId
    digest: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """Command: `postures` or `weights` are others now."""


Event = Seen | Challenged | Fetched | Tick
Command = Challenge | Fetch | Changed


@dataclass(slots=True)
class _Question:
    """When it may be asked, and how often in a row it failed."""

    at: float
    failures: int = 0
    asked: bool = False

    def failed(self, now: float) -> None:
        self.at = now + min(RETRY_MOST_S, RETRY_S * 2**self.failures)
        self.failures = min(self.failures + 1, 10)
        self.asked = False


@dataclass(slots=True)
class _Known:
    claim: Claim
    until: float = 0.0
    challenge: _Question | None = None
    fetches: dict[bytes, _Question] = field(default_factory=dict)


class Ledger:
    """`challenges`: whether anybody here verifies evidence; `fetches`: whether any signer of manifests is trusted."""

    def __init__(self, *, challenges: bool, fetches: bool) -> None:
        self._challenges = challenges
        self._fetches = fetches
        self._nodes: dict[NodeId, _Known] = {}
        self._covered: dict[bytes, None] = {}
        self._told: tuple[Mapping[NodeId, Posture], Mapping[NodeId, frozenset[bytes]]] = ({}, {})

    @property
    def postures(self) -> Mapping[NodeId, Posture]:
        """Nodes above CLAIMED, as of the last event."""
        return self._told[0]

    @property
    def weights(self) -> Mapping[NodeId, frozenset[bytes]]:
        """Covered digests that each node offers."""
        return self._told[1]

    def handle(self, event: Event, now: float) -> list[Command]:
        """What follows from one event."""
        match event:
            case Seen(claims):
                self._seen(claims, now)
            case Challenged(node, fresh_s):
                self._challenged(node, fresh_s, now)
            case Fetched(node, digest, covered):
                self._fetched(node, digest, covered, now)
            case Tick():
                pass
        return [*self._questions(now), *self._news(now)]

    def next_wakeup(self) -> float | None:
        """When something is to be asked, or ends; None while nothing will."""
        times = [known.until for known in self._nodes.values() if known.until]
        if self._room() > 0:
            busy = self._busy()
            for known in self._nodes.values():
                waiting = [q for digest, q in known.fetches.items() if digest not in busy]
                if known.challenge is not None and not known.challenge.asked:
                    waiting.append(known.challenge)
                times += [question.at for question in waiting]
        return min(times, default=None)

    def _seen(self, claims: Mapping[NodeId, Claim], now: float) -> None:
        before, self._nodes = self._nodes, {}
        for node, claim in claims.items():
            known = before.get(node)
            if not claim.anything and (known is None or not known.until):
                continue
            if len(self._nodes) >= MOST_NODES:
                break
            if known is None:
                known = _Known(claim)
            self._nodes[node] = known
            self._claimed(known, claim, now)

    def _claimed(self, known: _Known, claim: Claim, now: float) -> None:
        known.claim = claim
        if not claim.attested:
            # Whoever says it no longer is what it showed is believed at once: that can only close a door.
            known.challenge, known.until = None, 0.0
        elif known.challenge is None and self._challenges:
            known.challenge = _Question(now)
        if self._fetches:
            wanted = claim.digests - self._covered.keys()
            known.fetches = {digest: known.fetches.get(digest) or _Question(now) for digest in sorted(wanted)}

    def _challenged(self, node: NodeId, fresh_s: float | None, now: float) -> None:
        known = self._nodes.get(node)
        if known is None:
            return
        if known.challenge is None:
            # It took its claim back while it was being asked.
            return
        if fresh_s is not None:
            known.until = now + fresh_s
            # In time for several tries before the end.
            known.challenge = _Question(now + fresh_s / 2)
        else:
            known.challenge.failed(now)

    def _fetched(self, node: NodeId, digest: bytes, covered: bool, now: float) -> None:
        if covered:
            self._covered[digest] = None
            for known in self._nodes.values():
                known.fetches.pop(digest, None)
            if len(self._covered) > MOST_DIGESTS:
                del self._covered[next(iter(self._covered))]
            return
        question = self._nodes[node].fetches.get(digest) if node in self._nodes else None
        if question is not None:
            question.failed(now)

    def _room(self) -> int:
        """How many more questions may be asked now."""
        asked = sum(known.challenge.asked for known in self._nodes.values() if known.challenge is not None)
        return AT_ONCE - asked - sum(q.asked for known in self._nodes.values() for q in known.fetches.values())

    def _busy(self) -> set[bytes]:
        """Digests that somebody is being asked for."""
        return {d for known in self._nodes.values() for d, question in known.fetches.items() if question.asked}

    def _questions(self, now: float) -> list[Command]:
        """What is due, as many at once as may be; of one digest one question, whoever else offers it."""
        room, busy = self._room(), self._busy()
        commands: list[Command] = []
        for node, known in self._nodes.items():
            for question, command in _due(node, known, busy, now):
                if len(commands) >= room:
                    return commands
                question.asked = True
                if isinstance(command, Fetch):
                    busy.add(command.digest)
                commands.append(command)
        return commands

    def _news(self, now: float) -> list[Command]:
        postures: dict[NodeId, Posture] = {}
        weights: dict[NodeId, frozenset[bytes]] = {}
        for node, known in self._nodes.items():
            if known.until and known.until <= now:
                known.until = 0.0
            if covered := known.claim.digests & self._covered.keys():
                weights[node] = frozenset(covered)
            if known.until:
                postures[node] = Posture.ATTESTED
            elif covered and known.claim.all and covered == known.claim.digests:
                postures[node] = Posture.SIGNED_WEIGHTS
        if (postures, weights) == self._told:
            return []
        self._told = (postures, weights)
        return [Changed()]


def _due(node: NodeId, known: _Known, busy: set[bytes], now: float) -> list[tuple[_Question, Challenge | Fetch]]:
    found: list[tuple[_Question, Challenge | Fetch]] = []
    if known.challenge is not None and not known.challenge.asked and known.challenge.at <= now:
        found.append((known.challenge, Challenge(node)))
    for digest, question in known.fetches.items():
        if digest not in busy and question.at <= now:
            found.append((question, Fetch(node, digest)))
    return found
