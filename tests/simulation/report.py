"""What a run was like, in words and figures for a terminal. Not for deciding what is a failure (watch.py)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from statistics import median

from tests.simulation.run import Outcome

TRACE_LINES = 40


def one(outcome: Outcome) -> str:
    """One run at length."""
    setup, due = outcome.setup, outcome.expected
    per = setup.nodes * outcome.virtual_s or 1.0
    spread, healed = _seconds(outcome.converged_s), _seconds(outcome.healed_s)
    sent = ", ".join(f"{kind} {size / per:.0f}" for kind, size in outcome.bytes.most_common())
    ended = _counted(outcome.outcomes)
    lines = [
        f"seed {setup.seed}, {setup.nodes} nodes: {outcome.virtual_s:.0f} s of virtual time in {outcome.cpu_s:.1f} s,"
        f" {outcome.events} events ({outcome.events / max(outcome.cpu_s, 1e-9):,.0f}/s), {outcome.frames} frames",
        f"  a change is known everywhere after: {spread}",
        f"  bytes per node and second: {sum(outcome.bytes.values()) / per:.0f} ({sent})",
        f"  of which by arithmetic: digests {due.digests_bytes_s:.0f}, and for renewals {due.adverts_bytes_s:.0f}"
        f" ({due.renewals_per_s:.2f} a second x ({due.links:.1f} links - 1) x {due.advert_bytes:.0f} bytes)",
        f"  alive but not seen, at most: {outcome.unseen_s:.0f} s {outcome.unseen}".rstrip(),
        f"  connected again after the faults: {outcome.whole_s:.0f} s",
        f"  jobs: {ended}; asked as {_counted(outcome.tries)}",
    ]
    if outcome.healed_s:
        lines.append(f"  after a partition everybody knows what was said before its end in: {healed}")
    if outcome.missed_s:
        lines.append(f"  {_missed([outcome])}")
    if outcome.liars_share:
        lines.append(f"  served by liars: {outcome.liars_share:.1%}")
    if outcome.proofs:
        lines.append("  put aside for two adverts of one order: " + ", ".join(outcome.proofs))
    if outcome.violations:
        lines.append(f"  blamed: {dict(outcome.violations)}")
    if outcome.unknown:
        lines.append(f"  commands nobody performs: {dict(outcome.unknown)}")
    return "\n".join(lines)


def _missed(outcomes: Sequence[Outcome]) -> str:
    """When others noticed that a machine had died without a word."""
    times = sorted(s for outcome in outcomes for s in outcome.missed_s) or [0.0]
    p99_s = times[int(0.99 * (len(times) - 1))]
    return (
        f"a machine that died in silence is missed after {median(times):.2f} s in the middle, {p99_s:.2f} s (p99),"
        f" {times[-1]:.2f} s at most"
    )


def _seconds(found: list[float | None]) -> str:
    return ", ".join(f"{s:.2f} s" if s is not None else "never" for s in found) or "not measured"


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{how} {count}" for how, count in what.most_common()) or "none"


def failed(outcome: Outcome) -> str:
    """What broke, what led there, and how to see it again."""
    trace = "\n".join(f"    {line}" for line in outcome.trace[-TRACE_LINES:])
    return f"FAILED {outcome.setup.replay}\n  {outcome.failure}\n{trace}"


def many(outcomes: Sequence[Outcome], wall_s: float) -> str:
    """Many runs in a few lines."""
    nodes = outcomes[0].setup.nodes
    cpu = [outcome.cpu_s for outcome in outcomes]
    spread = [s for outcome in outcomes for s in outcome.converged_s if s is not None]
    never = sum(s is None for outcome in outcomes for s in outcome.converged_s)
    per = [sum(o.bytes.values()) / (nodes * o.virtual_s) for o in outcomes if o.virtual_s]
    worst = max(outcomes, key=lambda outcome: outcome.unseen_s)
    ended = sum((outcome.outcomes for outcome in outcomes), start=type(outcomes[0].outcomes)())
    tries = sum((outcome.tries for outcome in outcomes), start=type(outcomes[0].tries)())
    events = sum(outcome.events for outcome in outcomes)
    fingerprint = hashlib.sha256(" ".join(outcome.fingerprint for outcome in outcomes).encode()).hexdigest()[:16]
    return "\n".join(
        [
            f"{len(outcomes)} seeds x {nodes} nodes in {wall_s:.0f} s; {median(cpu):.2f} s of CPU each in the middle,"
            f" {max(cpu):.2f} s at most; {events / max(sum(cpu), 1e-9):,.0f} events/s",
            f"  a change is known everywhere after {median(spread or [0]):.2f} s in the middle,"
            f" {max(spread, default=0):.2f} s at most"
            + (f"; never in {never} of {never + len(spread)}" if never else ""),
            f"  bytes per node and second: {median(per or [0]):.0f} in the middle, {max(per, default=0):.0f} at most",
            f"  alive but not seen, at most: {worst.unseen_s:.0f} s {worst.unseen} (seed {worst.setup.seed})",
            f"  connected again after the faults: {max(outcome.whole_s for outcome in outcomes):.0f} s at most",
            *([f"  {_missed(outcomes)}"] if any(outcome.missed_s for outcome in outcomes) else []),
            f"  jobs: {_counted(ended)}",
            f"  asked as: {_counted(tries)}",
            f"  fingerprint of all that happened, the same for the same seeds and code: {fingerprint}",
        ]
    )
