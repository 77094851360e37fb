"""One run from its seed to its verdict: the mesh is founded, faults and requests happen at their times, all is judged.

Counterparts: plan, lab, client, judge; report.py puts it in words.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from tests.real.faults.client import Client, attempts
from tests.real.faults.judge import Outcome, Span, Verdict, judge
from tests.real.faults.lab import Lab, laboratory
from tests.real.faults.plan import Ask, Plan

SETTLES_S = 10.0
"""After the last request: what is still held then is held for ever."""


@dataclass(frozen=True, slots=True)
class Result:
    """`before` and `after` are open files and megabytes of each node; `held` and `left` say what should not be;
    `warnings` what the nodes warned of, how often."""

    plan: Plan
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    spans: tuple[Span, ...]
    before: list[tuple[int, float]]
    after: list[tuple[int, float]]
    settled_s: float
    held: str
    left: str
    took_s: float
    warnings: Counter[str]


async def run(plan: Plan, folder: Path) -> Result:
    """Do it all."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with laboratory(folder, plan) as lab:
        async with trio.open_nursery() as relays:
            await lab.start(relays)
            before = lab.weigh()
            async with trio.open_nursery() as nursery:
                for fault in plan.faults:
                    nursery.start_soon(_at, lab, fault.at_s, lab.befall, fault)
                for ask in plan.asks:
                    nursery.start_soon(_at, lab, ask.at_s, _one, lab, ask, outcomes)
            settled_s, held = await lab.settled(SETTLES_S)
            after, executions = lab.weigh(), lab.executions()
            left = await lab.stop()
            relays.cancel_scope.cancel()
        verdict = judge(plan, outcomes, lab.spans, executions)
        return Result(plan, verdict, tuple(outcomes), tuple(lab.spans), before, after, settled_s, held, left,
                      time.monotonic() - began, lab.warnings())  # fmt: skip


async def _at(lab: Lab, at_s: float, call: Any, *arguments: Any) -> None:
    while (due := lab.began + lab.lag_s + at_s) > trio.current_time():  # noqa: ASYNC110 - it moves meanwhile
        await trio.sleep_until(due)
    await call(*arguments)


async def _one(lab: Lab, ask: Ask, outcomes: list[Outcome]) -> None:
    node = lab.nodes[ask.entry]
    client = Client(ask, lab.began)
    outcome = await client.run(lab.api(ask.entry))
    told = outcome.how == "ended" and client.headers.get("x-meshnode-attempts", "") != "1"
    if told and node.runs:
        with trio.move_on_after(5):
            outcome = await trio.to_thread.run_sync(_told, lab, outcome, abandon_on_cancel=True)
    outcomes.append(outcome)


def _told(lab: Lab, outcome: Outcome) -> Outcome:
    """With what its node remembers of it; a node that was restarted remembers nothing."""
    entry = outcome.ask.entry
    url = f"http://127.0.0.1:{lab.api(entry)}/mesh/requests/{outcome.ask.name}"
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {lab.secrets[entry]}"})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            report = json.load(answer)
    except (OSError, ValueError):
        return outcome
    return replace(outcome, attempts=attempts(report, outcome.sent_s), made=len(report["attempts"]))
