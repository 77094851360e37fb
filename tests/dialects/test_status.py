"""Errors have the client's shape, and cross links unchanged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dialects import event_error, from_event, from_wire, http_error, http_problem, to_wire
from meshnode.errors import (
    REQUEST_ERRORS,
    BadRequest,
    ContextExceeded,
    DeadlineExceeded,
    EngineFailed,
    ModelNotFound,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
)

KEYS = {"message", "type", "param", "code"}


@pytest.mark.parametrize("cls", REQUEST_ERRORS.values(), ids=lambda c: c.__name__)
class TestEveryError:
    def test_has_all_four_keys(self, cls: type[RequestError]) -> None:
        status, _, body = http_error(cls("said"))
        assert status == cls.status
        assert json.loads(body) == {"error": {"message": "said", "type": cls.kind, "param": None, "code": cls.code}}

    def test_says_whether_to_try_again(self, cls: type[RequestError]) -> None:
        _, headers, _ = http_error(cls("said"))
        permanent = cls.status in (400, 401, 403, 404, 409, 413)
        assert (headers.get("x-should-retry") == "false") == permanent
        assert ("retry-after" in headers) == (cls.status in (429, 503))

    def test_crosses_a_link(self, cls: type[RequestError]) -> None:
        headers, body = to_wire(cls("said", param="p"))
        there = from_wire(cls.status, headers, body)
        assert type(there) is cls
        assert (there.message, there.param, there.retry_after_s) == ("said", "p", None)


def test_retry_after_is_whole_seconds_and_exact_milliseconds() -> None:
    _, headers, _ = http_error(Overloaded("full", retry_after_s=2.25))
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2250")


def test_retry_after_crosses_a_link() -> None:
    headers, body = to_wire(Overloaded("full", retry_after_s=2.25))
    assert from_wire(429, headers, body).retry_after_s == 2.25


def test_the_phase_of_a_deadline_crosses_a_link() -> None:
    headers, body = to_wire(DeadlineExceeded("late", phase="first_token"))
    there = from_wire(504, headers, body)
    assert isinstance(there, DeadlineExceeded)
    assert there.phase == "first_token"


@pytest.mark.parametrize(
    ("status", "body", "cls", "message"),
    [
        (404, b'{"error":"model x not found"}', ModelNotFound, "model x not found"),
        (400, b'{"object":"error","message":"bad","code":400}', BadRequest, "bad"),
        (422, b'{"detail":"no"}', BadRequest, "no"),
        (400, b'{"error":{"message":"long","type":"exceed_context_size_error"}}', ContextExceeded, "long"),
        (503, b"<html>", NoPeerReachable, "<html>"),
        (500, b"", PeerFailed, "answered with status 500"),
        (500, b"[" * 10_000, PeerFailed, "[" * 200),
        (418, b"[]", BadRequest, "answered with status 418"),
    ],
)
def test_foreign_errors_are_understood(status: int, body: bytes, cls: type[RequestError], message: str) -> None:
    found = from_wire(status, {}, body)
    assert type(found) is cls
    assert found.message == message


@given(
    st.integers(400, 599), st.dictionaries(st.sampled_from(["meshnode-error", "retry-after"]), st.text()), st.binary()
)
@settings(deadline=None, max_examples=200)
def test_any_answer_of_a_peer_is_some_error(status: int, headers: dict[str, str], body: bytes) -> None:
    assert isinstance(from_wire(status, headers, body), RequestError)


def test_an_error_in_a_stream_ends_it() -> None:
    data, done, rest = event_error(EngineFailed("died")).split(b"\n\n")
    assert set(json.loads(data.removeprefix(b"data: "))["error"]) == KEYS
    assert (done, rest) == (b"data: [DONE]", b"")


def test_an_error_that_begins_a_stream_is_restored() -> None:
    assert type(from_event(event_error(ContextExceeded("long")))) is ContextExceeded
    assert type(from_event(b'data: {"error":{"message":"no","code":400}}\n\n')) is BadRequest
    assert type(from_event(b'data: {"error":{"message":"no","code":500}}\n\n')) is EngineFailed
    assert type(from_event(b"data: {")) is EngineFailed


def test_faults_of_http_have_the_same_shape() -> None:
    status, headers, body = http_problem(405, "no")
    assert (status, headers["x-should-retry"], set(json.loads(body)["error"])) == (405, "false", KEYS)
    assert "x-should-retry" not in http_problem(408, "slow")[1]


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (413, "request_too_large"), (422, "invalid_request"), (500, "internal_error")],
)
def test_a_fault_of_http_has_the_code_of_the_error_it_is(status: int, code: str) -> None:
    assert json.loads(http_problem(status, "x")[2])["error"]["code"] == code
