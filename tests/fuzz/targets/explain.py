"""Bodies of `POST /mesh/explain`: the job that a request would be, or a refusal in words; wrapping changes nothing."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import trio

from meshnode.access import OPEN
from meshnode.config.front import FrontSection
from meshnode.dialects import CHAT, COMPLETION, EMBEDDINGS
from meshnode.errors import BadRequest
from meshnode.front.dry_run import explained
from meshnode.front.handlers import Incoming, make_job
from meshnode.model.job import Job
from tests.front.fakes import Mesh
from tests.fuzz.kit import Draw, in_words, mutate

ROUTES = (CHAT, COMPLETION, EMBEDDINGS, "/v1/messages", "/v1/nothing", "", "/v1/chat/completions?x=1")
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"X-Meshnode-Label": "sensitive"},
    {"x-meshnode-label": "secret"},
    {"x-meshnode-timeout": "1e999", "x-meshnode-quant": "q5"},
    {"x-meshnode-fanout": "9" * 40, "session-id": "s"},
    {"x\r\ny": "\u0000"},
)
ALONE = {"x-request-id": "r"}


def one_input(data: bytes) -> None:
    draw = Draw(data)
    body = draw.rest() if draw.flag() else mutate(_body(draw), draw)
    # A job's deadline is a moment of trio's clock.
    trio.run(_explain, body)


async def _explain(body: bytes) -> None:
    section, seen = FrontSection(), list[Job]()

    def explain(job: Job) -> dict[str, Any]:
        seen.append(job)
        return {}

    doors = dataclasses.replace(Mesh().doors(), explain=explain)
    try:
        answer = explained(ALONE, OPEN, body, doors, section)
    except BadRequest as error:
        # A wrong body is its sender's fault, and nothing else is raised.
        in_words(error)
        return
    assert answer == b"{}" and len(seen) == 1
    job = seen[0]
    assert job.body in body or json.loads(job.body) is not None
    # The same as what would run, which no wrapping may change.
    again = make_job(Incoming("POST", job.route, ALONE, job.body, OPEN), "id", doors, section)
    assert again.facts.model == job.facts.model


def _body(draw: Draw) -> bytes:
    inner: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": draw.flag()}
    if draw.flag():
        return json.dumps(inner).encode()
    route = ROUTES[draw.number(len(ROUTES))]
    if route in (COMPLETION, EMBEDDINGS):
        inner: dict[str, Any] = {"model": "m", "prompt" if route == COMPLETION else "input": "hi"}
    wrapped: dict[str, Any] = {"route": route, "body": inner, "headers": HEADERS[draw.number(len(HEADERS))]}
    if draw.flag():
        wrapped |= {"model": "m"}
    return json.dumps(wrapped).encode()


def seeds() -> dict[str, bytes]:
    """Both forms, both at once, and what has broken JSON readers."""
    return {
        "bare": b"\x00\x01\x01",
        "wrapped": b"\x00\x00\x00\x00\x01\x00",
        "embeddings": b"\x00\x00\x00\x02\x00\x00",
        "no-route": b"\x00\x00\x00\x04\x00\x00",
        "both": b"\x00\x00\x00\x00\x00\x01",
        "wrong-wishes": b"\x00\x00\x00\x00\x04\x00",
        "deep": b"\x01" + b'{"route":"/v1/chat/completions","body":' + b"[" * 300,
        "twice": b"\x01" + b'{"route":"/a","route":"/v1/completions","body":{"model":"m","prompt":"x"}}',
        "not-utf8": b"\x01" + b'{"route":"\xff","body":{}}',
    }
