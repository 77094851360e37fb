"""One inference request from its bytes to its last byte: job in, answer out, whatever lane carries the HTTP.

Not for sockets, routes or header rules (guard, app, asgi, gate) nor for who answers (dispatch). Counterpart: a lane's
`Reply`, into which this writes; leaving is cancelling, so a lane cancels `infer` when its client is gone.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio

from meshnode.access import Caller
from meshnode.config.front import FrontSection
from meshnode.dialects import ModelCard, read_demands, read_facts
from meshnode.errors import BadRequest, DeadlineExceeded, Forbidden, RequestError
from meshnode.front.doors import Doors
from meshnode.front.reply import Reply, close, collect, copy_on, refuse
from meshnode.front.streaming import StreamedReply
from meshnode.front.wishes import read_wishes
from meshnode.model.answer import Answer
from meshnode.model.job import Job, Label, Priority, Privacy

BACKSTOP_S = 2.0
"""Past the deadline the front ends a request itself; dispatch should have (requests.md §5: deadline + 2 s)."""

MAX_TIMEOUT_S = 86_400.0

_IDS = random.Random(secrets.token_bytes(32))  # noqa: S311 - names, no secrets, and no question to the system for each
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f-]{1,64}")
_PRIORITIES: dict[str, Priority | None] = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW}
_LABELS = {label.value: label for label in Label}
_PRIVACIES: dict[str, Privacy | None] = {privacy.value: privacy for privacy in Privacy}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request that is all here. Header names are lower case; repeated ones are joined by commas."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    caller: Caller


async def infer(request: Incoming, doors: Doors, section: FrontSection, reply: Reply) -> None:
    """Answer one inference request. Raises nothing of the request's own; cancelling it cancels the work behind it."""
    request_id = request_id_of(request.headers)
    try:
        job = make_job(request, request_id, doors, section)
        if not job.facts.stream:
            await _whole(job, doors, reply)
            return
    except RequestError as error:
        await refuse(reply, error, request_id)
        return
    backstop = job.deadline + BACKSTOP_S
    await StreamedReply(reply, job, section.keepalive_s, backstop, doors.queued).run(doors.dispatch)


def request_id_of(headers: Mapping[str, str]) -> str:
    """The client's own `x-request-id` if it is harmless, else a new one."""
    given = headers.get("x-request-id")
    return given if given is not None and _SANE_ID.fullmatch(given) else f"req_{_IDS.getrandbits(96):024x}"


def make_job(request: Incoming, request_id: str, doors: Doors, section: FrontSection) -> Job:
    """The job that a request asks for, within the bounds of its key. Raises BadRequest, Forbidden."""
    headers, caller = request.headers, request.caller
    facts = read_facts(request.path, request.body, headers, doors.session_secret)
    if not caller.may_ask(facts.model):
        raise Forbidden(f"This API key ({caller.key}) may not ask for the model {facts.model[:200]!r}", param="model")
    usual_s = section.stream_deadline_s if facts.stream else section.whole_deadline_s
    return Job(
        id=request_id,
        route=request.path,
        body=request.body,
        facts=facts,
        origin=doors.me,
        deadline=trio.current_time() + _timeout_s(headers, usual_s, caller.timeout_s),
        label=caller.labelled(_word(headers, "x-meshnode-label", _LABELS, Label.INTERNAL)),
        privacy=_word(headers, "x-meshnode-privacy", _PRIVACIES, None),
        priority=caller.tier(_word(headers, "x-meshnode-priority", _PRIORITIES, None)),
        owner=caller.owner,
        wishes=read_wishes(headers, caller),
        # Another trace's form is nobody's fault, and may hold what does not travel.
        traceparent=trace if _TRACEPARENT.fullmatch(trace := headers.get("traceparent", "")) else "",
        demands=read_demands(headers),
    )


def models_for(caller: Caller, doors: Doors) -> Sequence[ModelCard]:
    """The models that the holder of a key may ask for."""
    known = doors.models()
    return [card for card in known if caller.may_ask(card.id)] if caller.models else known


def _timeout_s(headers: Mapping[str, str], usual_s: float, most_s: float | None) -> float:
    text = headers.get("x-meshnode-timeout")
    if text is None:
        return usual_s if most_s is None else min(usual_s, most_s)
    try:
        asked_s = float(text)
    except ValueError:
        asked_s = 0.0
    if not 0 < asked_s <= MAX_TIMEOUT_S:
        raise BadRequest(
            "x-meshnode-timeout is a number of seconds, above 0, at most 86400", param="x-meshnode-timeout"
        )
    return asked_s if most_s is None else min(asked_s, most_s)


def _word(headers: Mapping[str, str], name: str, words: Mapping[str, T], usual: T) -> T:
    text = headers.get(name)
    if text is None:
        return usual
    found = words.get(text.strip().lower())
    if found is None:
        raise BadRequest(f"{name} is one of {', '.join(words)}", param=name)
    return found


async def _whole(job: Job, doors: Doors, reply: Reply) -> None:
    """Raises RequestError only while nothing was sent."""
    answer: Answer | None = None
    try:
        # By hand, and one for both: a scope costs as much as a plan, trio.fail_at twice that.
        with trio.CancelScope(deadline=job.deadline + BACKSTOP_S) as patience:
            answer = await doors.dispatch(job)
            collected, ended = await collect(answer)
        if patience.cancelled_caught:
            what = "an answer came" if answer is None else "the answer was whole"
            raise DeadlineExceeded(f"The request's time ran out before {what}")
        assert answer is not None
        await copy_on(answer, reply, job.id, collected, ended)
        # Nothing is left behind it, so that nobody need be shielded: that would be a scope more.
        await answer.aclose()
    except BaseException:
        if answer is not None:
            await close(answer)
        raise
