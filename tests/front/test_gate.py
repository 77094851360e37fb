"""Local tools get in; a web page does not, whatever name or method it tries."""

from __future__ import annotations

import pytest

from meshnode.errors import BadRequest, Forbidden
from meshnode.front.gate import Gate
from tests.front.fakes import section

GATE = Gate(section(api="192.168.1.5:6374", allowed_hosts=("desk.lan",), allowed_origins=("https://ui.lan",)))
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:6374", "127.0.0.1:6374", "127.9.9.9", "[::1]:6374", "192.168.1.5:6374", "Desk.LAN:1"],
)
def test_these_hosts_are_served(host: str) -> None:
    for _ in range(2):
        GATE.check("GET", {"host": host})


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:6374", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "[::2]"],
)
def test_these_hosts_are_not(host: str) -> None:
    for _ in range(2):
        with pytest.raises(Forbidden):
            GATE.check("GET", {"host": host})


def test_a_request_without_host_is_refused() -> None:
    with pytest.raises(Forbidden):
        GATE.check("GET", {})


def test_bound_to_every_address_any_address_is_served_but_no_name() -> None:
    gate = Gate(section(api="0.0.0.0:6374"))
    gate.check("GET", {"host": "10.0.0.1:6374"})
    with pytest.raises(Forbidden):
        gate.check("GET", {"host": "evil.example"})


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost:3000"}, False),
        ({"origin": "http://localhost:6374.evil.example"}, False),
        ({"origin": "https://ui.lan.evil.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:6374", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:6374", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://ui.lan", "sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({}, True),
    ],
)
def test_origins(method: str, headers: dict[str, str], allowed: bool) -> None:
    sent = {"host": "localhost:6374", **JSON, **headers}
    if allowed:
        GATE.check(method, sent)
    else:
        with pytest.raises(Forbidden):
            GATE.check(method, sent)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_posts_are_json(kind: str) -> None:
    GATE.check("POST", {"host": "localhost", "content-type": kind})


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_posts_are_refused(kind: str) -> None:
    """A page may send these without being asked about by its browser (a "simple" request)."""
    with pytest.raises(BadRequest):
        GATE.check("POST", {"host": "localhost", "content-type": kind})
