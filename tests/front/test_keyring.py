"""Who is let in: with and without keys, over both lanes, and what a key's bounds make of a request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio

from meshnode.access import OPEN, OPERATOR, Ring, Scope, Wish
from meshnode.errors import BadRequest, Conflict, Forbidden, SecretFileError, Unauthorized
from meshnode.front import Keyring, make_app
from meshnode.front.asgi import InferenceLane
from meshnode.front.control import ROUTES
from meshnode.front.exchange import ASGIApp
from meshnode.front.keyring import made
from meshnode.model.job import Job, Label, Priority
from tests.front.fakes import SECRET, Mesh, Response, chat_body, joined, section

INFER_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ring_with(**wish: Any) -> tuple[Ring, str]:
    ring, _, key = made(Ring(), Wish(owner="ann", **wish), 1000.0)
    return ring, key


def keyring(ring: Ring | None = None, **given: Any) -> Keyring:
    return Keyring(ring, SECRET, wall=lambda: 1000.0, **given)


async def ask(app: ASGIApp, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
    async with joined(app) as client:
        return await client.ask(method, path, body, **headers)


class TestKeyring:
    def test_without_keys_whoever_comes_is_answered(self) -> None:
        for headers in ({}, bearer("sk-anything")):
            assert keyring().admit(headers, Scope.INFER) is OPEN

    def test_a_key_is_needed_once_there_is_one(self) -> None:
        ring, key = ring_with()
        door = keyring(ring)
        with pytest.raises(Unauthorized, match="asks for an API key"):
            door.admit({}, Scope.INFER)
        with pytest.raises(Unauthorized, match="not known here"):
            door.admit(bearer("sk-anything"), Scope.INFER)
        for headers in (bearer(key), {"x-api-key": key}, {**bearer("sk-other"), "x-api-key": key}):
            assert door.admit(headers, Scope.INFER).owner == "ann"

    def test_a_key_may_be_needed_before_there_is_one(self) -> None:
        with pytest.raises(Unauthorized):
            keyring(required=True).admit({}, Scope.INFER)

    def test_the_user_of_this_machine_needs_none(self) -> None:
        ring, _ = ring_with()
        for scope in Scope:
            assert keyring(ring).admit(bearer(SECRET), scope) is OPERATOR

    @pytest.mark.parametrize("given", ["", "Bearer x", f"Basic {SECRET}", "Bearer ", "Bearer é", f"Bearer {SECRET}x"])
    @pytest.mark.parametrize("secret", [SECRET, ""])
    def test_a_wrong_secret_commands_nothing(self, given: str, secret: str) -> None:
        with pytest.raises(Unauthorized):
            Keyring(None, secret).command({"authorization": given})

    def test_the_secret_commands(self) -> None:
        Keyring(None, SECRET).command({"authorization": f"bearer {SECRET}"})

    def test_a_key_is_for_its_scopes_only(self) -> None:
        ring, key = ring_with(scopes=(Scope.ADMIN,))
        keyring(ring).command(bearer(key))
        with pytest.raises(Forbidden, match="lacks the scope infer"):
            keyring(ring).admit(bearer(key), Scope.INFER)
        ring, key = ring_with()
        with pytest.raises(Forbidden, match="lacks the scope admin"):
            keyring(ring).command(bearer(key))

    async def test_what_changed_holds_at_once_and_was_kept_before(self) -> None:
        kept: list[Ring] = []
        door = keyring(save=kept.append)
        added = await door.add(Wish(owner="ann"))
        assert door.admit(bearer(str(added["key"])), Scope.INFER).key == added["id"]
        assert [one["id"] for one in door.listed()] == [added["id"]]
        assert (await door.revoke(str(added["id"])))["state"] == "revoked"
        with pytest.raises(Unauthorized):
            door.admit(bearer(str(added["key"])), Scope.INFER)
        with pytest.raises(Unauthorized):
            door.admit({}, Scope.INFER)
        assert (await door.forget(str(added["id"])))["closed"] is False
        assert door.admit({}, Scope.INFER) is OPEN
        assert [len(ring) for ring in kept] == [1, 1, 0]

    async def test_the_last_key_opens_no_door_that_is_to_be_shut(self) -> None:
        ring, _ = ring_with(expires_s=1.0)
        door = Keyring(ring, SECRET, required=True, wall=lambda: 2000.0)
        assert (await door.forget(ring.records[0].id))["closed"] is True
        with pytest.raises(Unauthorized):
            door.admit({}, Scope.INFER)

    async def test_what_could_not_be_kept_does_not_hold(self) -> None:
        def full(_: Ring) -> None:
            raise SecretFileError("no room")

        ring, key = ring_with()
        door = keyring(ring, save=full)
        for change in (door.add(Wish(owner="bob")), door.revoke(ring.records[0].id)):
            with pytest.raises(SecretFileError):
                await change
        assert len(door.listed()) == 1
        assert door.admit(bearer(key), Scope.INFER).owner == "ann"

    async def test_changes_at_once_lose_none(self) -> None:
        door = keyring(save=lambda _: None)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(door.add, Wish(owner=f"o{number}"))
        assert {one["owner"] for one in door.listed()} == {f"o{number}" for number in range(8)}

    async def test_mistakes_are_said(self) -> None:
        ring, _ = ring_with()
        with pytest.raises(BadRequest, match="no key 'x'"):
            await keyring(ring).revoke("x")
        with pytest.raises(Conflict):
            await keyring(ring).forget(ring.records[0].id)


class TestDoors:
    @pytest.mark.parametrize("path", INFER_PATHS)
    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-x"}, {"x_api_key": "sk-x"}])
    async def test_inference_without_a_key_is_a_401_that_nobody_tries_again(
        self, path: str, headers: dict[str, str]
    ) -> None:
        ring, _ = ring_with()
        mesh = Mesh(keys=keyring(ring))
        response = await ask(mesh.app(), "POST", path, chat_body(), **headers)
        assert (response.status, response.error["code"], response.error["type"]) == (
            401, "invalid_api_key", "authentication_error",
        )  # fmt: skip
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["x-request-id"]
        assert not mesh.jobs

    @pytest.mark.parametrize("name", ["authorization", "x_api_key"])
    async def test_a_key_opens_both_ways(self, name: str) -> None:
        ring, key = ring_with()
        for path in ("/v1/chat/completions", "/v1/models"):
            method, body = ("GET", b"") if path == "/v1/models" else ("POST", chat_body())
            header = {name: f"Bearer {key}" if name == "authorization" else key}
            assert (await ask(Mesh(keys=keyring(ring)).app(), method, path, body, **header)).status == 200

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, "infer"])
    async def test_nothing_but_probes_is_told_without_a_key(self, headers: Any) -> None:
        ring, key = ring_with()
        headers = bearer(key) if headers == "infer" else headers
        app = Mesh(keys=keyring(ring)).app()
        for path in ("/", "/healthz", "/readyz"):
            assert (await ask(app, "GET", path)).status == 200
        wanted = 403 if len(headers) and key in headers["authorization"] else 401
        for path in ("/mesh/status", "/mesh/graph", "/mesh/requests", "/mesh/requests/x", "/metrics", "/nowhere"):
            assert (await ask(app, "GET", path, **headers)).status == wanted
        for path in (*ROUTES, "/mesh/explain"):
            assert (await ask(app, "POST", path, b"{}", **headers)).status == wanted
        if wanted == 401:
            assert (await ask(app, "GET", "/v1/models", **headers)).status == 401

    async def test_a_key_of_scope_admin_watches_and_commands(self) -> None:
        ring, key = ring_with(scopes=(Scope.ADMIN,))
        app = Mesh(keys=keyring(ring)).app()
        for path in ("/mesh/status", "/metrics", "/mesh/requests"):
            assert (await ask(app, "GET", path, **bearer(key))).status == 200
        assert (await ask(app, "POST", "/mesh/pause", b"{}", **bearer(key))).status == 200
        assert (await ask(app, "POST", "/mesh/explain", chat_body(), **bearer(key))).status == 200
        assert (await ask(app, "POST", "/v1/chat/completions", chat_body(), **bearer(key))).status == 403

    async def test_a_preflight_needs_none(self) -> None:
        ring, _ = ring_with()
        app = Mesh(keys=keyring(ring)).app(section(allowed_origins=("https://ui.lan",)))
        asked = {"access_control_request_method": "POST", "origin": "https://ui.lan"}
        assert (await ask(app, "OPTIONS", "/v1/chat/completions", **asked)).status == 204

    async def test_a_body_of_a_stranger_is_not_waited_for(self) -> None:
        ring, _ = ring_with()
        async with joined(Mesh(keys=keyring(ring)).app()) as client:
            await client.stream.send_all(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"content-length: 1000\r\n\r\n"
            )
            assert (await client.read()).status == 401

    @pytest.mark.parametrize("path", INFER_PATHS)
    async def test_both_lanes_are_equal_byte_for_byte(self, path: str) -> None:
        ring, key = ring_with(models=("m",), label=Label.SENSITIVE, priority="low", timeout_s=7.0)
        other_ring, admin = ring_with(scopes=(Scope.ADMIN,))
        rings = Ring((*ring.records, *other_ring.records))
        foreign = json.dumps({"model": "n", "messages": []}).encode()
        cases: list[tuple[bytes, dict[str, str]]] = [
            (chat_body(), bearer(key)),
            (chat_body(), {"x_api_key": key}),
            (chat_body(), bearer("wrong")),
            (chat_body(), bearer(admin)),
            (chat_body(), bearer(SECRET)),
            (foreign, bearer(key)),
            (b"{", {}),
            (chat_body(), {"host": "evil.example"}),
        ]
        for body, headers in cases:
            found: list[Any] = []
            for quick in (False, True):
                mesh = Mesh(keys=keyring(rings))
                reference = make_app(mesh.doors(), section())
                app = InferenceLane(reference, mesh.doors(), section()) if quick else reference
                response = await ask(app, "POST", path, body, x_request_id="same", **headers)
                response.headers.pop("date")
                found.append((response, [replace(job, deadline=0.0) for job in mesh.jobs]))
            assert found[0] == found[1]


class TestBounds:
    """What a key makes of a request."""

    async def job(self, body: bytes = b"", /, headers: dict[str, str] | None = None, **wish: Any) -> Job:
        ring, key = ring_with(**wish)
        mesh = Mesh(keys=keyring(ring))
        response = await ask(
            mesh.app(), "POST", "/v1/chat/completions", body or chat_body(), **bearer(key), **(headers or {})
        )
        assert response.status == 200, response.body
        return mesh.jobs[0]

    async def test_its_owner_asks_and_its_id_is_the_tenant(self) -> None:
        ring, key = ring_with()
        mesh = Mesh(keys=keyring(ring))
        await ask(mesh.app(), "POST", "/v1/chat/completions", chat_body(), **bearer(key))
        (job,) = mesh.jobs
        key_id = ring.records[0].id
        assert (job.owner, job.wishes.tenant, job.wishes.key) == ("ann", key_id, key_id)
        assert key not in repr(job)

    async def test_the_user_of_this_machine_asks_in_its_owners_name(self) -> None:
        ring, _ = ring_with()
        mesh = Mesh(keys=keyring(ring))
        await ask(mesh.app(), "POST", "/v1/chat/completions", chat_body(), **bearer(SECRET))
        assert (mesh.jobs[0].owner, mesh.jobs[0].wishes.key) == ("", "")
        assert SECRET not in repr(mesh.jobs[0])

    @pytest.mark.parametrize(
        ("of_key", "asked", "found"),
        [
            ("sensitive", "public", Label.SENSITIVE),
            ("internal", "public", Label.INTERNAL),
            ("public", "sensitive", Label.SENSITIVE),
            ("public", None, Label.INTERNAL),
        ],
    )
    async def test_the_stricter_label_wins(self, of_key: str, asked: str | None, found: Label) -> None:
        headers = {"x_meshnode_label": asked} if asked else {}
        assert (await self.job(headers=headers, label=Label(of_key))).label is found

    @pytest.mark.parametrize(
        ("of_key", "asked", "found"),
        [
            ("low", "high", Priority.LOW),
            ("low", None, Priority.LOW),
            ("high", None, Priority.HIGH),
            ("high", "low", Priority.LOW),
            ("normal", "high", Priority.NORMAL),
        ],
    )
    async def test_no_header_lifts_a_request_above_its_keys_tier(
        self, of_key: str, asked: str | None, found: Priority
    ) -> None:
        headers = {"x_meshnode_priority": asked} if asked else {}
        assert (await self.job(headers=headers, priority=of_key)).priority is found

    @pytest.mark.parametrize(("asked", "most_s"), [(None, 5.0), ("1", 1.0), ("60", 5.0)])
    async def test_its_times_bound_the_requests(self, asked: str | None, most_s: float, autojump_clock: object) -> None:
        names = ("x_meshnode_timeout", "x_meshnode_first_token_timeout", "x_meshnode_silence_timeout")
        headers = dict.fromkeys(names, asked) if asked else {}
        began = trio.current_time()
        job = await self.job(headers=headers, timeout_s=5.0, first_token_s=5.0, silence_s=5.0)  # type: ignore[arg-type]
        assert job.deadline - began == pytest.approx(most_s)
        assert (job.wishes.first_token_s, job.wishes.silence_s) == (most_s, most_s)

    async def test_a_long_time_of_a_key_lengthens_nothing(self, autojump_clock: object) -> None:
        began = trio.current_time()
        assert (await self.job(timeout_s=86_400.0)).deadline - began == pytest.approx(section().whole_deadline_s)

    async def test_other_models_are_refused_and_not_listed(self) -> None:
        ring, key = ring_with(models=("big/*",))
        mesh = Mesh(keys=keyring(ring))
        refused = await ask(mesh.app(), "POST", "/v1/chat/completions", chat_body(), **bearer(key))
        assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "forbidden", "model")
        assert not mesh.jobs
        listed = json.loads((await ask(mesh.app(), "GET", "/v1/models", **bearer(key))).body)
        assert [one["id"] for one in listed["data"]] == ["big/m:7b"]
        assert (await ask(mesh.app(), "GET", "/v1/models/big/m:7b", **bearer(key))).status == 200
        assert (await ask(mesh.app(), "GET", "/v1/models/m", **bearer(key))).status == 404

    async def test_an_explanation_may_be_of_a_request_with_another_key(self) -> None:
        ring, key = ring_with(models=("x",))
        app = Mesh(keys=keyring(ring)).app()
        asked = {"route": "/v1/chat/completions", "body": json.loads(chat_body()), "headers": {}}
        for headers, status in (({}, 200), (bearer(key), 403), (bearer("wrong"), 401)):
            body = json.dumps({**asked, "headers": headers}).encode()
            assert (await ask(app, "POST", "/mesh/explain", body, **bearer(SECRET))).status == status
