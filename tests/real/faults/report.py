"""A run in words: what was asked, what came of it, which promises were broken, and what counts as which."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tests.real.faults.judge import FAILOVER_S, Outcome
from tests.real.faults.plan import LINK
from tests.real.faults.run import Result

SHOWN = 40


def report(result: Result) -> str:
    """All of it."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    plan, verdict = result.plan, result.verdict
    yield f"seed {plan.seed}: {len(plan.faults)} faults, {len(plan.models)} nodes, {result.took_s:.0f} s"
    last_s = max(outcome.sent_s for outcome in result.outcomes)
    yield f"  faults that began while requests came: {sum(span.began_s < last_s for span in result.spans)}"
    answered = verdict.endings["answered"]
    good = verdict.counted - len(verdict.missed)
    share = f"{good} of {verdict.counted} that count: {verdict.success:.2%}"
    yield f"  requests {len(plan.asks)}, answered {answered}, {share}"
    yield f"  other ends { {how: many for how, many in verdict.endings.most_common() if how != 'answered'} }"
    yield f"  not counted {dict(verdict.excused.most_common())}"
    yield (
        f"  failovers before the first token {len(verdict.failovers)}: p50 {verdict.failover_s(0.5):.2f} s, "
        f"p99 {verdict.failover_s(0.99):.2f} s, most {verdict.failover_s(1.0):.2f} s"
    )
    yield f"  seconds until the victim was back, after it was mended: {_back(result)}"
    yield f"  nodes warned {dict(result.warnings.most_common())}"
    yield f"  still {result.settled_s:.1f} s after the last; {_weights(result)}"
    for fault in (result.held, result.left):
        if fault:
            yield f"  LEFT: {fault}"
    yield f"  promises broken {len(verdict.broken)}"
    yield from (f"    {line}" for line in verdict.broken[:SHOWN])
    yield from (f"    missed: {_told(result, outcome)}" for outcome in verdict.missed[:SHOWN])
    slow = [(took_s, outcome) for took_s, outcome in verdict.failovers if took_s > FAILOVER_S]
    yield from (f"    slow to go elsewhere, {took_s:.2f} s: {_told(result, outcome)}" for took_s, outcome in slow)


def _back(result: Result) -> str:
    """By kind of fault, the middle and the most."""
    took: dict[str, list[float]] = {}
    for span in result.spans:
        took.setdefault(span.fault.kind, []).append(span.ended_s - span.mended_s)
    return ", ".join(f"{kind} {median(times):.1f}/{max(times):.1f}" for kind, times in sorted(took.items()))


def _weights(result: Result) -> str:
    files = [f"{before[0]}>{after[0]}" for before, after in zip(result.before, result.after, strict=True)]
    memory = [f"{before[1]:.0f}>{after[1]:.0f}" for before, after in zip(result.before, result.after, strict=True)]
    return f"open files {' '.join(files)}; MB {' '.join(memory)}"


def _told(result: Result, outcome: Outcome) -> str:
    ask = outcome.ask
    spans = [span for span in result.spans if span.meets(outcome.sent_s, outcome.ended_s)]
    meanwhile = ", ".join(
        f"{span.fault.kind} n{span.fault.node}{f'-n{span.fault.other}' if span.fault.kind == LINK else ''} "
        f"{span.began_s - outcome.sent_s:+.1f}..{span.ended_s - outcome.sent_s:+.1f}"
        for span in spans
    )
    tried = ", ".join(f"{one.node} {one.began_s - outcome.sent_s:.2f} {one.outcome}" for one in outcome.attempts)
    pin = f"@n{ask.pin}" if ask.pin >= 0 else ""
    return (
        f"{ask.name} {ask.model}{pin} at n{ask.entry} {outcome.sent_s:.1f}, {'streamed' if ask.stream else 'whole'}, "
        f"{outcome.answer.status} {outcome.ending} after {outcome.ended_s - outcome.sent_s:.1f} of {ask.deadline_s} s, "
        f"path {outcome.path}; tried {tried}; meanwhile {meanwhile}"
    )
