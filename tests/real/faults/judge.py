"""Whether what users were promised held in a run: each request by rules that were there before the run. Pure.

What counts and what does not is written at `excuse`. Counterparts: client.py brings outcomes, lab.py the times at which
faults really began and ended.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.real.faults.answer import Answer
from tests.real.faults.plan import LINK, NODE_FAULTS, PREFILL_S, SPOILS_LATER, Ask, Fault, Plan

MARGIN_S = 2.0
"""A request ends by its deadline and so much more (requests.md §5)."""

FAILOVER_S = 3.0
"""Failover before the first token, of 99 in 100."""

SUCCESS = 0.99


@dataclass(frozen=True, slots=True)
class Span:
    """A fault as it was: from just before it began until just after its victim was seen to be back; `mended_s` is when
    it was mended."""

    fault: Fault
    began_s: float
    ended_s: float
    mended_s: float

    def meets(self, since_s: float, until_s: float) -> bool:
        """Whether any of it lay between."""
        return self.began_s <= until_s and self.ended_s >= since_s

    @property
    def ends(self) -> tuple[int, ...]:
        """The nodes that it befell."""
        return (self.fault.node, self.fault.other) if self.fault.kind == LINK else (self.fault.node,)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A server that was asked, by its name, as the request's own node tells it."""

    node: str
    began_s: float
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, as its client saw it. `how` is "ended", "left", "broken" (the connection ended) or "gave up"; `path`
    the nodes it went through, `made` how often it was sent to a server, where that was told; `attempts` are known of
    those that were not answered at the first."""

    ask: Ask
    answer: Answer
    sent_s: float
    ended_s: float
    first_s: float | None
    how: str
    path: str = ""
    made: int = 0
    attempts: tuple[Attempt, ...] = ()

    @property
    def answered(self) -> bool:
        """With the whole of the right answer."""
        return self.how == "ended" and self.answer.whole and self.answer.text == self.ask.text(self.ask.tokens)

    @property
    def ending(self) -> str:
        """In a word."""
        return "answered" if self.answered else self.answer.error or ("broken" if self.how == "ended" else self.how)


@dataclass(slots=True)
class Verdict:
    """What came of a run. `broken` are promises that were, one line each; `missed` are requests that count and were not
    answered; `excused` those that do not count, by reason; `failovers` those that went elsewhere, and how long
    it took."""

    broken: list[str] = field(default_factory=list)
    missed: list[Outcome] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    counted: int = 0
    failovers: list[tuple[float, Outcome]] = field(default_factory=list)

    @property
    def success(self) -> float:
        """The share of those that count which were answered."""
        return 1.0 - len(self.missed) / self.counted if self.counted else 1.0

    def failover_s(self, share: float) -> float:
        """The time within which this share of failovers was over."""
        ordered = sorted(took_s for took_s, _ in self.failovers)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def judge(
    plan: Plan, outcomes: Sequence[Outcome], spans: Sequence[Span], executions: Mapping[str, int] | None = None
) -> Verdict:
    """Look at every request once. `executions` says by name how often engines began one."""
    verdict = Verdict()
    seen = Counter(outcome.ask.number for outcome in outcomes)
    for ask in plan.asks:
        if seen[ask.number] != 1:
            verdict.broken.append(f"{ask.name}: ended {seen[ask.number]} times")
    for outcome in outcomes:
        verdict.endings[outcome.ending] += 1
        verdict.broken += [f"{outcome.ask.name}: {fault}" for fault in broken(outcome, spans)]
        if outcome.made and (times := (executions or {}).get(outcome.ask.name, 0)) > outcome.made:
            verdict.broken.append(f"{outcome.ask.name}: begun {times} times in {outcome.made} attempts")
        if reason := excuse(plan, outcome, spans):
            verdict.excused[reason] += 1
        else:
            verdict.counted += 1
            if not outcome.answered:
                verdict.missed.append(outcome)
        if (took_s := failover(outcome, spans)) is not None:
            verdict.failovers.append((took_s, outcome))
    return verdict


# What must hold for every request, whatever was broken.


def broken(outcome: Outcome, spans: Sequence[Span]) -> Iterable[str]:
    """The promises that were broken to one client."""
    ask, answer = outcome.ask, outcome.answer
    yield from answer.wrong
    if answer.ends > 1:
        yield f"{answer.ends} ends"
    if not ask.text(ask.tokens).startswith(answer.text):
        yield f"tokens doubled, out of order or another's: {answer.text[:80]!r}"
    elif answer.whole and answer.text != ask.text(ask.tokens):
        yield f"not whole: {answer.text[-40:]!r} of {ask.tokens} tokens"
    away = [span for span in _of(spans, ask.entry, NODE_FAULTS) if span.meets(outcome.sent_s, outcome.ended_s)]
    endless = outcome.how == "broken" or (outcome.how == "ended" and answer.ends == 0)
    if endless and not any(span.fault.kind == "kill" for span in away):
        yield f"neither an answer nor an error: {answer.status} {answer.text[-40:]!r}"
    if outcome.how == "left":
        return
    # A node that stands still can say nothing: its time to end begins when it goes on.
    stood = [span.mended_s for span in away if span.fault.kind == "stop"]
    due_s = max([outcome.sent_s + ask.deadline_s, *stood]) + MARGIN_S
    if outcome.ended_s > due_s:
        yield f"{outcome.ended_s - due_s:.1f} s beyond its deadline and {MARGIN_S:g} s more: {outcome.ending}"


# What counts towards the share that is answered.


def excuse(plan: Plan, outcome: Outcome, spans: Sequence[Span]) -> str:
    """Why a request does not count, answered or not; "" where it does.

    It does not count when its client left; when it asked for more than can come in its time; when its own node was
    killed, stopped or cut off at any moment of it; when it was pinned to a node that was at fault in it; when a fault
    befell its server after its first token was out; or when no server of its model was well at some moment of it.
    """
    ask, since_s, until_s = outcome.ask, outcome.sent_s, outcome.ended_s
    meeting = [span for span in spans if span.meets(since_s, until_s)]
    if outcome.how == "left":
        return "its client left"
    if ask.hopeless:
        return "it asked for more than can come in its time"
    if _of(meeting, ask.entry, NODE_FAULTS):
        return "its own node was killed, stopped or cut off"
    if ask.pin >= 0 and any(span.fault.kind != LINK and span.fault.node == ask.pin for span in meeting):
        return "pinned to a node at fault"
    if _first_was_out(outcome, meeting):
        return "its first token was out"
    if not _could_be_served(plan, outcome, meeting):
        return "nobody who has its model was well"
    return ""


def _of(spans: Iterable[Span], node: int, kinds: Sequence[str]) -> list[Span]:
    return [span for span in spans if span.fault.node == node and span.fault.kind in kinds]


def _first_was_out(outcome: Outcome, meeting: Iterable[Span]) -> bool:
    """Whether a fault that could be felt after it befell a node or a link of its path when it had its first token."""
    if outcome.first_s is None or not outcome.ask.stream:
        return False
    path = [int(name[1:]) for name in outcome.path.split(" > ") if name[1:].isdecimal()]
    legs = list(itertools.pairwise(path))
    for span in meeting:
        fault = span.fault
        felt = {*span.ends} in [{*leg} for leg in legs] if fault.kind == LINK else fault.node in path
        if felt and (span.began_s >= outcome.first_s or (fault.kind in SPOILS_LATER and fault.node == path[-1])):
            return True
    return False


def _could_be_served(plan: Plan, outcome: Outcome, meeting: Sequence[Span]) -> bool:
    """Whether at every moment of it some node that has its model had no fault. Looked at where a fault begins."""
    servers = [node for node, has in enumerate(plan.models) if outcome.ask.model in has]
    moments = [outcome.sent_s, *(span.began_s for span in meeting if span.began_s > outcome.sent_s)]
    faults = [span for span in meeting if span.fault.kind != LINK]
    return all(
        any(not any(span.fault.node == node and span.meets(at_s, at_s) for span in faults) for node in servers)
        for at_s in moments
    )


# How long it took to go elsewhere.


def failover(outcome: Outcome, spans: Sequence[Span]) -> float | None:
    """Seconds from when a fault could first be felt by the server asked, to the first token from another; None where it
    was not that.

    Of an answer that is not streamed, whose first token nobody sees, to when the other was asked, and the time that an
    engine takes before it.
    """
    if not outcome.answered or len(outcome.attempts) < 2 or _of_entry(outcome, spans):
        return None
    first = outcome.attempts[0]
    if first.node == outcome.attempts[-1].node:
        return None
    at = [
        max(first.began_s, span.began_s)
        for span in spans
        if f"n{span.fault.node}" == first.node and span.meets(first.began_s, outcome.attempts[1].began_s)
    ]
    if not at:
        return None
    if outcome.ask.stream:
        return outcome.first_s - min(at) if outcome.first_s is not None else None
    return outcome.attempts[-1].began_s - min(at) + PREFILL_S


def _of_entry(outcome: Outcome, spans: Iterable[Span]) -> bool:
    ours = _of(spans, outcome.ask.entry, NODE_FAULTS)
    return any(span.meets(outcome.sent_s, outcome.ended_s) for span in ours)
