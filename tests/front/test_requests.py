"""Who asked when is told to holders of the control secret only."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from meshnode.front import make_asgi
from meshnode.front.exchange import ASGIApp
from tests.front.fakes import SECRET, SECTION, Mesh, Response, joined

BEARER = f"Bearer {SECRET}"


def app() -> ASGIApp:
    doors = replace(
        Mesh().doors(),
        requests=lambda many: [{"id": "r1", "many": many}],
        request=lambda request: {"id": request} if request == "r1" else None,
    )
    return make_asgi(doors, SECTION)


async def ask(method: str, path: str, **headers: str) -> Response:
    async with joined(app()) as client:
        return await client.ask(method, path, **headers)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/mesh/requests", {"requests": [{"id": "r1", "many": 100}]}),
        ("/mesh/requests?limit=5", {"requests": [{"id": "r1", "many": 5}]}),
        ("/mesh/requests?limit=99999", {"requests": [{"id": "r1", "many": 1000}]}),
        ("/mesh/requests?limit=-1", {"requests": [{"id": "r1", "many": 100}]}),
        ("/mesh/requests/r1", {"id": "r1"}),
    ],
)
async def test_requests_are_told(path: str, answer: object) -> None:
    response = await ask("GET", path, authorization=BEARER)
    assert (response.status, json.loads(response.body)) == (200, answer)


async def test_an_unknown_one_is_not_there() -> None:
    assert (await ask("GET", "/mesh/requests/r2", authorization=BEARER)).status == 404


@pytest.mark.parametrize("path", ["/mesh/requests", "/mesh/requests/r1"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
async def test_needs_the_secret(path: str, headers: dict[str, str]) -> None:
    assert (await ask("GET", path, **headers)).status == 401
