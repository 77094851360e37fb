from __future__ import annotations

import socket

import pytest

from meshnode.cli.daemon import Daemon, NotRunning, refusal
from meshnode.errors import LinkClosed, ModelNotFound, Overloaded, RequestError, Unauthorized
from tests.cli.conftest import FakeDaemon
from tests.kit.waiting import PATIENCE_S


def test_nobody_listening_is_not_running() -> None:
    with pytest.raises(NotRunning, match="meshnode up"):
        Daemon("http://127.0.0.1:1").get("/mesh/status")


@pytest.mark.parametrize("api", ["127.0.0.1:{port}", "http://0.0.0.0:{port}"])
def test_an_address_may_be_bare_or_a_wildcard(daemon: FakeDaemon, api: str) -> None:
    assert Daemon(api.format(port=daemon.api.rpartition(":")[2])).get("/healthz") == {}


def test_an_impossible_port_is_an_error_of_ours() -> None:
    with pytest.raises(NotRunning, match="not an address"):
        Daemon("http://127.0.0.1:99999").get("/")


def test_a_host_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(NotRunning, match="studio is not an address of a node: Name or service"):
        Daemon("studio").get("/mesh/status")


def test_a_server_that_hangs_up_is_a_closed_link() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        daemon = Daemon(f"http://127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(PATIENCE_S)

        from threading import Thread

        thread = Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises((LinkClosed, NotRunning)):
            daemon.get("/mesh/status")
        thread.join()


def test_the_secret_is_not_in_the_representation() -> None:
    assert "s3cret" not in repr(Daemon("http://127.0.0.1:1", "s3cret"))


def test_the_secret_goes_to_control_routes_only(daemon: FakeDaemon) -> None:
    for path in ("/mesh/invite", "/v1/chat/completions"):
        daemon.answer("POST", path, {})
        Daemon(daemon.api, "s3cret").post(path, {})
    assert [authorization for *_, authorization in daemon.asked] == ["Bearer s3cret", None]


@pytest.mark.parametrize(("method", "path"), [("GET", "/mesh/status"), ("POST", "/v1/chat/completions")])
def test_a_node_that_asks_for_a_key_is_shown_the_secret_then(daemon: FakeDaemon, method: str, path: str) -> None:
    daemon.answer(method, path, {"error": {"message": "no key", "code": "invalid_api_key"}}, status=401)
    asked = {"GET": lambda one: one.get(path), "POST": lambda one: one.post(path, {})}[method]
    with pytest.raises(Unauthorized, match="no key"):
        asked(Daemon(daemon.api, "s3cret"))
    with pytest.raises(Unauthorized):
        asked(Daemon(daemon.api))
    assert [authorization for *_, authorization in daemon.asked] == [None, "Bearer s3cret", None]


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b'{"error":{"message":"m","code":"model_not_found"}}', ModelNotFound, "m"),
        (b'{"error":{"message":"m","code":"overloaded"}}', Overloaded, "m"),
        (b'{"error":{"message":"m","code":["x"]}}', RequestError, "m"),
        (b'{"error":"m"}', RequestError, "status 418"),
        (b"[1]", RequestError, "status 418"),
        (b"\xff\xfe", RequestError, "status 418"),
        (b"", RequestError, "no text"),
    ],
)
def test_a_refusal_is_read_whatever_it_looks_like(body: bytes, kind: type[RequestError], text: str) -> None:
    error = refusal(body, 418)
    assert type(error) is kind
    assert text in str(error)
