"""The dry run makes the job that the request would be, and asks nobody."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from meshnode.access import OPEN
from meshnode.dialects import EMBEDDINGS
from meshnode.errors import BadRequest
from meshnode.front.dry_run import explained
from meshnode.front.handlers import Incoming, make_job
from meshnode.model.job import Demands, Job, Label
from tests.front.fakes import SECTION, Mesh, chat_body, joined


def asked(body: Any, headers: Mapping[str, str] | None = None) -> Job:
    """The job that is asked about, inside trio or not."""
    seen: list[Job] = []

    def explain(job: Job) -> dict[str, Any]:
        seen.append(job)
        return {"reason": "because"}

    doors = dataclasses.replace(Mesh().doors(), explain=explain)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert explained(headers or {}, OPEN, data, doors, SECTION) == b'{"reason":"because"}'
    return seen[0]


async def test_a_chat_body_is_explained_under_its_own_headers() -> None:
    job = asked(chat_body(), {"x-meshnode-label": "sensitive", "x-meshnode-quant": "q5"})
    assert (job.facts.model, job.label, job.demands) == ("m", Label.SENSITIVE, Demands(quant_bits=5))


async def test_a_request_in_full_brings_route_and_headers() -> None:
    job = asked({"route": EMBEDDINGS, "body": {"model": "e", "input": "x"}, "headers": {"X-Meshnode-Label": "public"}})
    assert (job.route, job.facts.model, job.label) == (EMBEDDINGS, "e", Label.PUBLIC)


async def test_it_is_the_job_that_would_run() -> None:
    doors = Mesh().doors()
    ran = make_job(Incoming("POST", "/v1/chat/completions", {}, chat_body(), OPEN), "id", doors, SECTION)
    assert asked(chat_body()).facts.needs == ran.facts.needs


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"route": "/v1/chat/completions"}', b'{"route": 1, "body": {}}'])
async def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        asked(body)


async def test_the_route_answers_and_nothing_runs() -> None:
    mesh = Mesh()
    async with joined(mesh.app()) as client:
        response = await client.ask("POST", "/mesh/explain", chat_body())
        assert (response.status, response.body) == (200, b"{}")
        refused = await client.ask("POST", "/mesh/explain", chat_body(), host="evil.example")
        assert refused.status == 403
    assert mesh.jobs == []
