"""A job's envelope as headers between nodes: written by the origin, rewritten by each relay, read by the server.

The client's credentials are not among them; they end at the entry node. What travels of the deadline is the time that
remains, never a wall clock. Counterpart: inbound.py. protocol.md §3.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshnode.errors import DecodeError
from meshnode.model.digits import read_digits
from meshnode.model.ids import NodeId
from meshnode.model.job import Facts, Job, Label, Priority
from meshnode.trust.claim import MAX_CHARACTERS, MOST_MS

Headers = list[tuple[str, str]]

MAX_HOPS = 8
"""Longest path any node lets a job take (protocol.md §6)."""

MAX_REMAINING_S = MOST_MS / 1000

DONE = "meshnode-done"
"""Trailer of an answer that ended as its server meant it to; without it the answer was cut."""

ERROR = "meshnode-error"
MESSAGE = "meshnode-message"

PATH = "meshnode-path"
"""Of a job: the nodes that have passed it on, origin first. Of an answer: the same with its server at the end."""

ATTEMPT = "meshnode-attempt"
"""Of a job, and of its answer: what answers another attempt is dropped."""

CLAIM = "meshnode-claim"

PASSED_ON = ("content-type", "retry-after", PATH)
"""Headers of an answer that travel, besides x-meshnode-*: the rest describe the engine's own connection."""

REQUEST_ID_CHARACTERS = 96
"""Of a request's id in its job's id between nodes, which has 128 at most, so that logs of all hops can be joined."""

_FREE = {None: False, "free": True}
_AT_ONCE = {None: False, "no": True}
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


def name_of(job: Job) -> str:
    """A job's id between nodes: clients may use an id twice, and peers refuse a job that they have met."""
    return f"{job.id[:REQUEST_ID_CHARACTERS]}.{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a hop must know of a job without reading its body. `remaining_s` counts from receipt. `free`: its relays may
    choose a better server. `at_once`: its server is to refuse it rather than let it wait. `first_token_s` and
    `silence_s` are the client's own patience, None where it leaves that to the nodes. `claim` is the origin's signature
    for `owner`, where relays can read the job (trust.claim)."""

    id: str
    route: str
    origin: NodeId
    target: NodeId
    attempt: int
    remaining_s: float
    hops_left: int
    path: tuple[NodeId, ...]
    label: Label
    priority: Priority
    owner: str
    traceparent: str
    free: bool = False
    first_token_s: float | None = None
    silence_s: float | None = None
    at_once: bool = False
    claim: str = ""

    def job(self, body: bytes, facts: Facts, now: float) -> Job:
        """The job this envelope and `body` make at this node."""
        return Job(
            id=self.id,
            route=self.route,
            body=body,
            facts=facts,
            origin=self.origin,
            deadline=now + self.remaining_s,
            attempt=self.attempt,
            target=self.target,
            hops_left=self.hops_left,
            path=self.path,
            label=self.label,
            priority=self.priority,
            owner=self.owner,
            traceparent=self.traceparent,
            at_once=self.at_once,
        )


def envelope_of(
    job: Job, attempt: int, target: NodeId, now: float, *, free: bool = False, at_once: bool = False
) -> Envelope:
    """The envelope of `job` as its origin sends it to `target`, at the `attempt`th try, counted from 1."""
    return Envelope(
        id=job.id,
        route=job.route,
        origin=job.origin,
        target=target,
        attempt=attempt,
        remaining_s=job.deadline - now,
        hops_left=job.hops_left,
        path=job.path,
        label=job.label,
        priority=job.priority,
        owner=job.owner,
        traceparent=job.traceparent,
        free=free,
        first_token_s=job.wishes.first_token_s,
        silence_s=job.wishes.silence_s,
        at_once=at_once,
    )


def write(envelope: Envelope, me: NodeId) -> Headers:
    """Headers for the next hop: one hop less, this node added to the path."""
    headers = [
        (":method", "POST"),
        (":scheme", "mesh"),
        (":authority", "mesh"),
        (":path", envelope.route),
        ("meshnode-job", envelope.id),
        (ATTEMPT, str(envelope.attempt)),
        ("meshnode-origin", envelope.origin.text),
        ("meshnode-target", envelope.target.text),
        ("meshnode-remaining-ms", _ms(envelope.remaining_s)),
        ("meshnode-hops", str(envelope.hops_left - 1)),
        (PATH, write_path((*envelope.path, me))),
        ("meshnode-label", envelope.label.value),
        ("meshnode-priority", envelope.priority.name.lower()),
    ]
    if envelope.free:
        headers.append(("meshnode-choice", "free"))
    if envelope.at_once:
        headers.append(("meshnode-queue", "no"))
    if envelope.first_token_s is not None:
        headers.append(("meshnode-first-token-ms", _ms(envelope.first_token_s)))
    if envelope.silence_s is not None:
        headers.append(("meshnode-silence-ms", _ms(envelope.silence_s)))
    if envelope.owner:
        headers.append(("meshnode-owner", envelope.owner))
    if envelope.claim:
        headers.append((CLAIM, envelope.claim))
    if envelope.traceparent:
        headers.append(("traceparent", envelope.traceparent))
    return headers


def whole_ms(seconds: float) -> int:
    """A time as it travels; what was read and is written again is never more."""
    return max(0, int(min(seconds, MAX_REMAINING_S) * 1000))


def _ms(seconds: float) -> str:
    return str(whole_ms(seconds))


def _seconds(ms: str | None) -> float | None:
    return read_digits(ms) / 1000 if ms is not None else None


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an answer's headers that travel; the receiver asks too, since a peer may send what it likes."""
    return {name: value for name, value in headers.items() if name in PASSED_ON or name.startswith("x-meshnode-")}


def write_path(path: Iterable[NodeId]) -> str:
    """Nodes in order."""
    return ",".join(node.text for node in path)


def read_path(text: str) -> tuple[NodeId, ...]:
    """What `write_path` wrote, of at most a server and the nodes before it. Raises DecodeError."""
    parts = text.split(",", MAX_HOPS + 1)
    if len(parts) > MAX_HOPS + 1:
        raise DecodeError("a path of too many nodes")
    return tuple(NodeId.parse(part) for part in parts)


def read(headers: Iterable[tuple[str, str]]) -> Envelope:
    """Read a peer's headers. Raises DecodeError for whatever `write` would not have written."""
    found = dict(headers)
    try:
        path = read_path(found[PATH])
        envelope = Envelope(
            id=found["meshnode-job"],
            route=found[":path"],
            origin=NodeId.parse(found["meshnode-origin"]),
            target=NodeId.parse(found["meshnode-target"]),
            attempt=read_digits(found[ATTEMPT]),
            remaining_s=read_digits(found["meshnode-remaining-ms"]) / 1000,
            hops_left=read_digits(found["meshnode-hops"]),
            path=path,
            label=Label(found["meshnode-label"]),
            priority=_PRIORITIES[found["meshnode-priority"]],
            owner=found.get("meshnode-owner", ""),
            traceparent=found.get("traceparent", ""),
            free=_FREE[found.get("meshnode-choice")],
            first_token_s=_seconds(found.get("meshnode-first-token-ms")),
            silence_s=_seconds(found.get("meshnode-silence-ms")),
            at_once=_AT_ONCE[found.get("meshnode-queue")],
            claim=found.get(CLAIM, ""),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"a job's headers do not make sense: {error}") from error
    bounded = (
        0 < len(envelope.id) <= 128
        and len(envelope.owner) <= 128
        and len(envelope.traceparent) <= 128
        and len(envelope.claim) <= MAX_CHARACTERS
        and 0 <= envelope.hops_left < MAX_HOPS
        and 1 <= envelope.attempt <= 100
        and all(
            0 <= s <= MAX_REMAINING_S
            for s in (envelope.remaining_s, envelope.first_token_s or 0, envelope.silence_s or 0)
        )
        and len(path) + envelope.hops_left <= MAX_HOPS
        and path[0] == envelope.origin
    )
    if not bounded:
        raise DecodeError("a job's headers are out of bounds")
    return envelope
