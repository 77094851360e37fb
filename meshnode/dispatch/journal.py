"""What happened to the last requests of this node: the plan, who was asked when, and a time line to the end.

Kept in memory only, bounded in number and bytes, and without a word of prompt or answer. Told late: names are looked up
when somebody asks. Not for counting (observe.metrics). Counterpart: front.requests, which shows it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from meshnode.errors import RequestError
from meshnode.model.ids import NodeId
from meshnode.routing import Plan, explain

if TYPE_CHECKING:
    from meshnode.model.job import Job
    from meshnode.model.view import View

STEPS = 48
"""Of one request: more than the attempts there can be, each asked, queued and ended."""

OUTSIDE = "asked outside the mesh"
"""A commercial API was, whose name is the step's detail."""

ANSWERED_OUTSIDE = "answered outside the mesh"

_ASKED = frozenset({"asked", OUTSIDE})

_OVER = frozenset({"answered", "failed", "let go"})
"""What happens to attempts that do not wait any more."""

EXCLUSIONS = 40
"""Kept of every plan; a mesh may have a thousand nodes that may not serve."""

QUEUE_DIGITS = 9
"""Of milliseconds: a week and more."""

ENTRY_BYTES = 1400
ATTEMPT_BYTES = 450
CANDIDATE_BYTES = 450
EXCLUSION_BYTES = 300
STEP_BYTES = 150
"""What each takes in memory, measured generously."""


class Step(NamedTuple):
    """Something that happened `at` a moment on trio's clock. `attempt` counts from 1, 0 where it is about none."""

    at: float
    event: str
    attempt: int = 0
    node: NodeId | None = None
    detail: str = ""


class Entry:
    """One request. `plan` is None until there is one; `outcome` until it has ended. `whole` is the same plan with all
    who were looked at, while there is room for that."""

    __slots__ = (
        "at", "cache", "chunks", "key", "label", "model", "outcome", "owner", "places", "plan", "queue_ms", "refusal",
        "request", "route", "shares", "steps", "stream", "whole",
    )  # fmt: skip

    def __init__(self, job: Job, now: float) -> None:
        self.request = job.id
        self.route, self.model, self.stream, self.label = job.route, job.facts.model, job.facts.stream, job.label.value
        # Of an API key its public id.
        self.owner, self.key = job.owner, job.wishes.key
        self.at = time.time()
        self.plan: Plan | None = None
        self.whole: Plan | None = None
        self.refusal: dict[str, Any] | None = None
        self.steps = [Step(now, "received")]
        self.outcome: str | None = None
        self.queue_ms: int | None = None
        self.cache = self.shares = ""
        self.chunks = 0
        # Of attempts that wait in another node's queue, as those tell.
        self.places: dict[int, int] = {}

    def planned(self, plan: Plan, now: float) -> None:
        """Servers were chosen, or none was found."""
        if plan.refusal is not None:
            # Not the error itself: raised, it holds the frames that it passed, and with them the prompt.
            error = plan.refusal
            self.refusal = {"status": error.status, "code": error.code, "message": error.message}
            plan = plan._replace(refusal=None)
        if plan.ranked or len(plan.exclusions) > EXCLUSIONS:
            self.whole = plan
            plan = plan._replace(exclusions=plan.exclusions[:EXCLUSIONS], ranked=())
        self.plan = plan
        self.note(now, "planned")

    def note(self, now: float, event: str, attempt: int = 0, node: NodeId | None = None, detail: str = "") -> None:
        """Something happened."""
        if len(self.steps) < STEPS:
            self.steps.append(Step(now, event, attempt, node, detail))
        if self.places and event in _OVER:
            self.places.pop(attempt, None)

    def placed(self, now: float, attempt: int, node: NodeId, place: int) -> None:
        """An attempt waits at this place in another node's queue; 0: no longer. The first of each is a step."""
        if not place:
            self.places.pop(attempt, None)
            return
        if attempt not in self.places:
            self.note(now, "queued", attempt, node, f"place {place}")
        self.places[attempt] = place

    @property
    def asked(self) -> int:
        """How many servers were, those outside the mesh included."""
        return sum(step.event in _ASKED for step in self.steps)

    @property
    def place(self) -> int:
        """Where it waits in other nodes' queues, at best; 0 where it does not."""
        return min(self.places.values(), default=0) if self.outcome is None else 0

    def queued(self, said: str) -> None:
        """How many milliseconds its server says that it waited there: a peer's word, of any length."""
        if len(said) <= QUEUE_DIGITS and said.isascii() and said.isdigit():
            self.queue_ms = int(said)

    def ended(self, now: float, outcome: str, chunks: int = 0) -> None:
        """It is over; only the first end counts."""
        if self.outcome is None:
            self.outcome, self.chunks = outcome, chunks
            self.steps.append(Step(now, "ended", detail=outcome))

    @property
    def size(self) -> int:
        """What it may take in memory, once it has ended."""
        plan = self.plan
        many = (len(plan.attempts) + len(plan.others), len(plan.exclusions)) if plan is not None else (0, 0)
        return ENTRY_BYTES + many[0] * ATTEMPT_BYTES + many[1] * EXCLUSION_BYTES + len(self.steps) * STEP_BYTES

    @property
    def whole_size(self) -> int:
        """What `whole` may take besides."""
        plan = self.whole
        return plan.eligible * CANDIDATE_BYTES + len(plan.exclusions) * EXCLUSION_BYTES if plan is not None else 0


class Journal:
    """The newest requests, at most `most` and `most_bytes`; the oldest go first, and before any goes, the oldest lists
    of all who were looked at do."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._whole: deque[tuple[Entry, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, job: Job, now: float) -> Entry:
        """A request came."""
        return Entry(job, now)

    def keep(self, entry: Entry) -> None:
        """It was planned or refused: from now on it can be found."""
        size = entry.size + STEPS // 4 * STEP_BYTES
        self._entries.append(entry)
        self._sizes.append(size)
        self._bytes += size
        if entry.whole is not None:
            self._whole.append((entry, entry.whole_size))
            self._bytes += entry.whole_size
        while self._whole and self._bytes > self._most_bytes:
            self._shorten()
        while len(self._entries) > self._most or (self._bytes > self._most_bytes and len(self._entries) > 1):
            if self._whole and self._whole[0][0] is self._entries[0]:
                self._shorten()
            self._entries.popleft()
            self._bytes -= self._sizes.popleft()

    def _shorten(self) -> None:
        entry, size = self._whole.popleft()
        entry.whole = None
        self._bytes -= size

    def find(self, request: str) -> Entry | None:
        """The newest of this id: clients may use one twice."""
        return next((entry for entry in reversed(self._entries) if entry.request == request), None)

    def waiting(self) -> int:
        """How many wait in other nodes' queues."""
        return sum(1 for entry in self._entries if entry.place)

    def recent(self, many: int) -> list[Entry]:
        """The newest first."""
        return [entry for entry, _ in zip(reversed(self._entries), range(many), strict=False)]


def error_code(error: BaseException) -> str:
    """What an outcome is called."""
    return error.code if isinstance(error, RequestError) else "cancelled"


def brief(entry: Entry, view: View, now: float) -> dict[str, Any]:
    """One request in a line of a list."""
    return {
        "id": entry.request,
        "at": round(entry.at, 3),
        "route": entry.route,
        "model": entry.model,
        "stream": entry.stream,
        "label": entry.label,
        "owner": entry.owner or None,
        "key": entry.key or None,
        "outcome": entry.outcome or "running",
        "place": entry.place or None,
        "total_s": _us(entry.steps[-1].at if entry.outcome else now, entry) / 1e6,
        "node": _server(entry, view),
        "attempts": entry.asked,
    }


def _server(entry: Entry, view: View) -> str | None:
    """Who answered, or went on with it."""
    for step in reversed(entry.steps):
        if step.event in ("answered", "continued") and step.node is not None:
            return view.name(step.node)
        if step.event == ANSWERED_OUTSIDE:
            return step.detail
    return None


def report(entry: Entry, view: View, now: float) -> dict[str, Any]:
    """Everything about one request: the time line's `for_s` add up to `total_s`, in whole microseconds."""
    first = next((step for step in entry.steps if step.event == "first token"), None)
    plan = entry.whole or entry.plan
    told = explain(plan, view) if plan is not None else {"attempts": [], "excluded": [], "reason": ""}
    not_listed = plan.left_out - len(plan.exclusions) if plan is not None else 0
    return {
        **brief(entry, view, now),
        "plan": {**told, "not_listed": not_listed, **({"refusal": entry.refusal} if entry.refusal else {})},
        "attempts": _attempts(entry, view),
        "queue_ms": entry.queue_ms,
        "first_token_s": _us(first.at, entry) / 1e6 if first is not None else None,
        "chunks": entry.chunks,
        "cache": entry.cache or None,
        "shares": entry.shares or None,
        "hedged": any(step.event == "asked" and step.detail == "hedge" for step in entry.steps),
        "timeline": _timeline(entry, view, now),
    }


def _us(at: float, entry: Entry) -> int:
    return round((at - entry.steps[0].at) * 1e6)


def _attempts(entry: Entry, view: View) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for step in entry.steps:
        if step.event in _ASKED:
            node = step.node
            found[step.attempt] = {
                "number": step.attempt, "node": node.text if node is not None else None,
                "name": view.name(node) if node is not None else step.detail,
                "why": step.detail if node is not None else "outside the mesh",
                "began_s": _us(step.at, entry) / 1e6, "took_s": None, "outcome": "running",
            }  # fmt: skip
        elif step.attempt in found:
            one = found[step.attempt]
            one["took_s"] = (_us(step.at, entry) - round(one["began_s"] * 1e6)) / 1e6
            one["outcome"] = "answered" if step.event == ANSWERED_OUTSIDE else step.detail or step.event
    return list(found.values())


def _timeline(entry: Entry, view: View, now: float) -> list[dict[str, Any]]:
    steps = entry.steps if entry.outcome else [*entry.steps, Step(now, "now")]
    before, shown = 0, []
    for step in steps:
        at_us = _us(step.at, entry)
        shown.append({
            "at_s": at_us / 1e6, "for_s": (at_us - before) / 1e6, "event": step.event, "attempt": step.attempt or None,
            "node": view.name(step.node) if step.node is not None else None, "detail": step.detail or None,
        })  # fmt: skip
        before = at_us
    return shown
