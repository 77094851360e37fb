"""Every route answers, every error is an OpenAI error object, and the short lane does what the application does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import InviteRefused, LinkClosed, PeerFailed
from meshnode.front import make_app
from meshnode.front.asgi import InferenceLane
from meshnode.front.control import ROUTES
from meshnode.front.exchange import ASGIApp
from meshnode.model.answer import WholeAnswer
from tests.front.fakes import (
    DONE,
    JSON,
    SECRET,
    WHOLE,
    Mesh,
    Response,
    Script,
    chat_body,
    delta,
    joined,
    section,
)

BEARER = f"Bearer {SECRET}"


async def ask(app: ASGIApp, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    async with joined(app) as client:
        return await client.ask(method, path, body, **headers)


class TestPages:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/healthz", {"status": "ok", "node": "desk"}),
            ("/readyz", {"status": "ready"}),
            ("/mesh/status", {"nodes": []}),
            ("/mesh/graph", {"me": "desk"}),
        ],
    )
    async def test_json(self, path: str, expected: dict[str, Any]) -> None:
        response = await ask(Mesh().app(), "GET", path)
        assert (response.status, json.loads(response.body)) == (200, expected)
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"].startswith("req_")
        assert "access-control-allow-origin" not in response.headers

    async def test_root_says_where_to_point_tools(self) -> None:
        response = await ask(Mesh().app(), "GET", "/", host="localhost:6374")
        assert json.loads(response.body)["openai_base_url"] == "http://localhost:6374/v1"

    async def test_metrics(self) -> None:
        response = await ask(Mesh().app(), "GET", "/metrics")
        assert (response.body, response.headers["content-type"]) == (b"up 1\n", "text/plain; version=0.0.4")

    @pytest.mark.parametrize("reason", ["starting", "draining"])
    async def test_not_ready(self, reason: str) -> None:
        response = await ask(Mesh(why_not_ready=reason).app(), "GET", "/readyz")
        assert (response.status, json.loads(response.body)["status"]) == (503, reason)
        assert response.error["message"]

    async def test_models(self) -> None:
        listed = json.loads((await ask(Mesh().app(), "GET", "/v1/models")).body)
        assert [model["id"] for model in listed["data"]] == ["big/m:7b", "m"]

    @pytest.mark.parametrize("path", ["/v1/models/big/m:7b", "/v1/models/big%2Fm%3A7b"])
    async def test_one_model(self, path: str) -> None:
        assert json.loads((await ask(Mesh().app(), "GET", path)).body)["id"] == "big/m:7b"

    async def test_head(self) -> None:
        response = await ask(Mesh().app(), "HEAD", "/healthz")
        assert response.status == 200


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/v1/models/none", 404, "model_not_found"),
            ("GET", "/nowhere", 404, "not_found"),
            ("POST", "/v1/responses", 404, "not_found"),
            ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
            ("DELETE", "/v1/models", 405, "method_not_allowed"),
            ("POST", "/v1/chat/completions", 400, "invalid_request"),
            ("POST", "/mesh/invite", 401, "invalid_api_key"),
        ],
    )
    async def test_are_openai_objects(self, method: str, path: str, status: int, code: str) -> None:
        response = await ask(Mesh().app(), method, path)
        assert (response.status, response.error["code"]) == (status, code)
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-request-id"]

    async def test_405_says_what_is_allowed(self) -> None:
        assert "POST" in (await ask(Mesh().app(), "GET", "/v1/chat/completions")).headers["allow"]

    @pytest.mark.parametrize("path", ["/", "/v1/models", "/mesh/status", "/mesh/graph", "/nowhere"])
    async def test_foreign_hosts_get_nothing(self, path: str) -> None:
        response = await ask(Mesh().app(), "GET", path, host="evil.example")
        assert (response.status, response.error["code"]) == (403, "forbidden")

    async def test_a_crash_behind_a_page_is_a_500_without_details(self, capsys: pytest.CaptureFixture[str]) -> None:
        def crash() -> dict[str, Any]:
            raise ValueError("secret words")

        doors = replace(Mesh().doors(), status=crash)
        response = await ask(make_app(doors, section()), "GET", "/mesh/status")
        assert (response.status, response.error["type"]) == (500, "server_error")
        assert "secret" not in "".join(capsys.readouterr()) + response.body.decode()


CONTROL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "/mesh/invite",
        {"expires_s": 60, "roles": ["client", "serve"], "owner": "ann", "root": True},
        {"token": "t", "expires_s": 60.0, "roles": ["client", "serve"], "owner": "ann", "root": True},
    ),
    ("/mesh/join", {"token": "t"}, {"joined": "t"}),
    ("/mesh/leave", {"force": True}, {"left": "home", "force": True}),
    ("/mesh/rotate", {}, {"generation": 2}),
    ("/mesh/peers/revoke", {"node": "attic", "keep_invited": True}, {"node": "attic", "keep_invited": True}),
    ("/mesh/peers/trust", {"node": "attic", "name": "loft"}, {"node": "attic", "name": "loft"}),
    ("/mesh/peers/forget", {"node": "attic"}, {"node": "attic"}),
    ("/mesh/pause", {"foreign_only": True}, {"takes": "own"}),
    ("/mesh/resume", {}, {"takes": "all"}),
    ("/mesh/keys/add", {"owner": "ann", "expires_s": 60}, {"key": "mk_", "owner": "ann", "expires_s": 60.0}),
    ("/mesh/keys/list", {}, {"keys": []}),
    ("/mesh/keys/revoke", {"key": "0a1b2c3d"}, {"revoked": "0a1b2c3d"}),
    ("/mesh/keys/forget", {"key": "0a1b2c3d"}, {"forgotten": "0a1b2c3d"}),
    ("/mesh/doctor", {}, {"peers": 0}),
]
"""Every control route with a body and what the fake answers to it."""


class TestControl:
    def test_every_route_is_here(self) -> None:
        assert {path for path, *_ in CONTROL} == set(ROUTES)

    @pytest.mark.parametrize(("path", "body", "answer"), CONTROL)
    async def test_passes_on_what_it_is_told(self, path: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
        response = await ask(Mesh().app(), "POST", path, json.dumps(body).encode(), authorization=BEARER)
        assert (response.status, json.loads(response.body)) == (200, answer)

    async def test_an_invite_of_nothing_said_is_a_usual_one(self) -> None:
        response = await ask(Mesh().app(), "POST", "/mesh/invite", authorization=BEARER)
        assert json.loads(response.body) == {"token": "t", "expires_s": None, "roles": None, "owner": "", "root": False}

    @pytest.mark.parametrize("path", sorted(ROUTES))
    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}])
    async def test_needs_the_secret(self, path: str, headers: dict[str, str]) -> None:
        assert (await ask(Mesh().app(), "POST", path, b"{}", **headers)).status == 401

    @pytest.mark.parametrize("path", sorted(ROUTES))
    async def test_takes_no_get(self, path: str) -> None:
        assert (await ask(Mesh().app(), "GET", path, authorization=BEARER)).status == 405

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/mesh/invite", b'{"expires_s":-1}'),
            ("/mesh/invite", b'{"expires_s":"x"}'),
            ("/mesh/invite", b'{"roles":["king"]}'),
            ("/mesh/invite", b'{"roles":[]}'),
            ("/mesh/invite", b'{"owner":"' + b"x" * 65 + b'"}'),
            ("/mesh/invite", b"[]"),
            ("/mesh/invite", b"{"),
            ("/mesh/join", b""),
            ("/mesh/peers/revoke", b'{"node":""}'),
            ("/mesh/peers/revoke", b'{"node":"attic","keep-invited":true}'),
            ("/mesh/peers/revoke", b'{"node":"attic","keep_invited":1}'),
            ("/mesh/rotate", b'{"node":"attic"}'),
            ("/mesh/keys/add", b"{}"),
            ("/mesh/keys/add", b'{"owner":" ann"}'),
            ("/mesh/keys/add", b'{"owner":"ann","scopes":["king"]}'),
            ("/mesh/keys/add", b'{"owner":"ann","expires_s":0}'),
            ("/mesh/keys/revoke", b'{"key":""}'),
        ],
    )
    async def test_a_wrong_body_is_a_400(self, path: str, body: bytes) -> None:
        assert (await ask(Mesh().app(), "POST", path, body, authorization=BEARER)).status == 400

    @pytest.mark.parametrize(("path", "body", "_"), CONTROL)
    @pytest.mark.parametrize(("error", "status"), [(InviteRefused("used"), 400), (LinkClosed("gone"), 502)])
    async def test_a_refusal_says_why(
        self, path: str, body: dict[str, Any], _: object, error: Exception, status: int
    ) -> None:
        mesh = Mesh()
        mesh.control.refusal = error
        response = await ask(mesh.app(), "POST", path, json.dumps(body).encode(), authorization=BEARER)
        assert (response.status, response.error["message"]) == (status, str(error))


class TestOrigins:
    APP = Mesh().app(section(allowed_origins=("https://ui.lan",)))

    async def test_a_listed_page_may_read(self) -> None:
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
            response = await ask(
                self.APP, method, path, chat_body() if method == "POST" else b"", origin="https://ui.lan"
            )
            assert (response.status, response.headers["access-control-allow-origin"]) == (200, "https://ui.lan")

    async def test_preflight(self) -> None:
        asked = {"access_control_request_method": "POST", "access_control_request_headers": "content-type"}
        response = await ask(self.APP, "OPTIONS", "/v1/chat/completions", origin="https://ui.lan", **asked)
        assert response.status == 204
        assert response.headers["access-control-allow-headers"] == "content-type"
        refused = await ask(self.APP, "OPTIONS", "/v1/chat/completions", origin="https://evil.example", **asked)
        assert refused.status == 403


CASES: dict[str, tuple[bytes, dict[str, str]]] = {
    "whole": (chat_body(), {}),
    "stream": (chat_body(stream=True), {}),
    "broken json": (b"{", {}),
    "no model": (b'{"messages":[]}', {}),
    "wrong label": (chat_body(), {"x_meshnode_label": "x"}),
    "foreign host": (chat_body(), {"host": "evil.example"}),
    "foreign origin": (chat_body(), {"origin": "https://evil.example"}),
    "listed origin": (chat_body(), {"origin": "https://ui.lan"}),
    "not json": (chat_body(), {"content_type": "text/plain"}),
    "cross-site": (chat_body(), {"sec_fetch_site": "cross-site"}),
    "repeated": (chat_body(), {"accept": "a, b"}),
    "query": (chat_body(), {"x_query": "1"}),
    "slow body": (b"", {"content_length": "10"}),
    "large body": (b" " * 3000, {}),
    "keepalive": (chat_body(stream=True), {"x_request_id": "slow"}),
    "break": (chat_body(stream=True), {"x_request_id": "break"}),
    "refused": (chat_body(), {"x_request_id": "refuse"}),
    "empty": (b"", {}),
}


class TestBothLanesAreEqual:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
    async def test_byte_for_byte(self, case: str, path: str, autojump_clock: MockClock) -> None:
        body, headers = CASES[case]
        headers = {"x_request_id": "same", **headers}
        limits = section(body_limit_bytes=2000, allowed_origins=("https://ui.lan",))
        found: list[Any] = []
        for quick in (False, True):
            mesh = Mesh(self.answer)
            reference = make_app(mesh.doors(), limits)
            app = InferenceLane(reference, mesh.doors(), limits) if quick else reference
            target = f"{path}?x=1" if "x_query" in headers else path
            async with joined(app) as client:  # its own limits are larger: these are the lanes' own
                if case == "slow body":
                    head = "".join(
                        f"{k.replace('_', '-')}: {v}\r\n" for k, v in {**headers, "host": "localhost"}.items()
                    )
                    start = f"POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n{head}\r\n"
                    await client.stream.send_all(start.encode())
                    response = await client.read()
                else:
                    response = await client.ask("POST", target, body, **headers)
            response.headers.pop("date")
            found.append((response, [replace(job, deadline=0.0) for job in mesh.jobs]))
        assert found[0] == found[1]
        assert found[0][0].status

    @staticmethod
    async def answer(job: Any) -> Any:
        match job.id:
            case "slow":
                await trio.sleep(15)
                return Script(delta("a"), DONE)
            case "break":
                return Script(delta("a"), PeerFailed("cut"))
            case "refuse":
                return Script(b'{"error":{}}', status=400, headers=JSON)
            case _ if job.facts.stream:
                return Script(delta("a"), DONE)
            case _:
                return WholeAnswer(200, JSON, WHOLE)
