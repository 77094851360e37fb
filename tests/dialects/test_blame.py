"""Whose fault an engine's refusal is: never the client's key, and the request's only where the request is at fault."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.dialects import event_error, from_engines_event, of_engine
from meshnode.errors import (
    BadRequest,
    ContextExceeded,
    EngineFailed,
    EngineUnauthorized,
    ModelNotFound,
    Overloaded,
    RequestError,
    Unauthorized,
)


@pytest.mark.parametrize("status", [401, 403, 407])
def test_credentials_are_the_nodes_own_and_not_the_clients(status: int) -> None:
    error = of_engine(status, "Incorrect API key provided: sk-abc", "the engine e")
    assert type(error) is EngineUnauthorized
    assert (error.status, error.code, error.elsewhere) == (502, "engine_unauthorized", True)
    assert "the engine e refuses its node's credentials" in error.message
    assert ("sk-abc" in error.message) == (status == 403), "a 401 may quote the credential"


@given(st.integers(0, 999), st.text(max_size=40))
@settings(deadline=None)
def test_every_refusal_is_the_requests_fault_or_an_error_that_others_may_not_have(status: int, text: str) -> None:
    error = of_engine(status, text, "the engine e")
    if error is None:
        assert 400 <= status < 500
    else:
        assert error.elsewhere or type(error) is BadRequest
        assert error.status not in (401, 403, 404)


def event(**error: object) -> bytes:
    return b"data: " + json.dumps({"error": {"message": "no", **error}}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("chunk", "cls"),
    [
        (event(code=401), EngineUnauthorized),
        (event(code="invalid_api_key"), EngineUnauthorized),
        (event(code=403), EngineUnauthorized),
        (event(code=404), EngineFailed),
        (event(code="model_not_found"), EngineFailed),
        (event(code=429), Overloaded),
        (event(code=500), EngineFailed),
        (event(code=503), EngineFailed),
        (event(code=400), BadRequest),
        (event(code="context_length_exceeded"), ContextExceeded),
        (event(code=400, type="exceed_context_size_error"), ContextExceeded),
        (event(type="authentication_error"), EngineFailed),
        (event(code=200), EngineFailed),
        (event_error(Unauthorized("no")), EngineUnauthorized),
        (event_error(ModelNotFound("no")), EngineFailed),
        (b"data: {", EngineFailed),
        (b'{"error": {"message": "no", "code": 429}}', Overloaded),
        (b'{"error": "no"}', EngineFailed),
    ],
)
def test_an_error_that_begins_an_engines_stream_is_judged_alike(chunk: bytes, cls: type[RequestError]) -> None:
    assert type(from_engines_event(chunk)) is cls
