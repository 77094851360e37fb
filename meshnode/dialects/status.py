"""Gives a RequestError the shape its reader expects: OpenAI's error object for clients, the same with a code for nodes.

Not for deciding what went wrong (the rooms that raise) nor for sending (front). Counterpart: errors.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from meshnode.dialects.sse import opening
from meshnode.errors import (
    REQUEST_ERRORS,
    BadRequest,
    BodyTooLarge,
    ContextExceeded,
    DeadlineExceeded,
    EngineFailed,
    Forbidden,
    ModelNotFound,
    NoPeerReachable,
    Overloaded,
    PeerFailed,
    RequestError,
    Unauthorized,
)

CODE_HEADER: Final = "meshnode-error"
"""Names the error's class between nodes, by its code."""

PHASE_HEADER: Final = "meshnode-phase"

DEFAULT_RETRY_S: Final = 1.0
"""For 429 and 503 that do not say when: a slot frees or a peer is found within about a second."""

MESSAGE_CHARACTERS: Final = 2_000
"""What is kept of a message that came from outside."""

DONE: Final = b"data: [DONE]\n\n"

_BY_STATUS: Final[Mapping[int, type[RequestError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: ModelNotFound,
    413: BodyTooLarge,
    429: Overloaded,
    503: NoPeerReachable,
    504: DeadlineExceeded,
}

_CONTEXT_CODES: Final = {"context_length_exceeded", "exceed_context_size_error"}
"""OpenAI's and vLLM's word, and llama.cpp's."""

_HTTP_CODES: Final[Mapping[int, str]] = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: BodyTooLarge.code,
    431: "headers_too_large",
    503: "unavailable",
    505: "http_version",
}


def error_body(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    """OpenAI's error object; strict clients want all four keys."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def http_error(error: RequestError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a client. SDKs obey `x-should-retry` first, then `retry-after-ms`, `retry-after`."""
    headers = {"content-type": "application/json"}
    if 400 <= error.status < 500 and error.status != 429:
        headers["x-should-retry"] = "false"
    if error.status == 401:
        # RFC 9110 §11.6.1; a browser asks nobody for a bearer token.
        headers["www-authenticate"] = "Bearer"
    wait_s = error.retry_after_s
    if wait_s is None and error.status in (429, 503):
        wait_s = DEFAULT_RETRY_S
    if wait_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(wait_s)))
        headers["retry-after-ms"] = str(max(1, math.ceil(wait_s * 1000)))
    return error.status, headers, error_body(error.message, error.kind, error.param, error.code)


def http_problem(status: int, message: str) -> tuple[int, dict[str, str], bytes]:
    """A fault of HTTP itself (no such path, wrong method, slow body) in the same shape. 408 may be tried again."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {"content-type": "application/json"}
    if status < 500 and status != 408:
        headers["x-should-retry"] = "false"
    code = _HTTP_CODES.get(status, "invalid_request" if status < 500 else RequestError.code)
    return status, headers, error_body(message, kind, None, code)


def event_error(error: RequestError) -> bytes:
    """An error inside a stream that has begun, and the stream's end."""
    return b"data: " + error_body(error.message, error.kind, error.param, error.code) + b"\n\n" + DONE


def to_wire(error: RequestError) -> tuple[dict[str, str], bytes]:
    """Headers and body for another node, which restores the error with `from_wire`."""
    _, headers, body = http_error(error)
    headers[CODE_HEADER] = error.code
    if isinstance(error, DeadlineExceeded):
        headers[PHASE_HEADER] = error.phase
    if error.retry_after_s is None:
        headers.pop("retry-after", None)
        headers.pop("retry-after-ms", None)
    return headers, body


def from_wire(status: int, headers: Mapping[str, str], body: bytes) -> RequestError:
    """The error behind an answer of 400 or more: exact from a node of ours, by status and body from anything else."""
    said = error_object(body)
    cls = REQUEST_ERRORS.get(headers.get(CODE_HEADER, "")) or _class_of(status, said)
    message = str(said.get("message") or f"answered with status {status}")[:MESSAGE_CHARACTERS]
    param = said.get("param")
    param = param[:MESSAGE_CHARACTERS] if isinstance(param, str) else None
    if issubclass(cls, DeadlineExceeded):
        return cls(message, phase=headers.get(PHASE_HEADER, "")[:32], param=param)
    return cls(message, param=param, retry_after_s=_retry_after_s(headers))


def from_event(chunk: bytes) -> RequestError:
    """The error that a stream of a node began with (sse.first_event_is_error); of an engine's stream see blame.py."""
    data = next((line[5:].strip() for line in opening(chunk).splitlines() if line.startswith(b"data:")), b"")
    said = error_object(data)
    named = REQUEST_ERRORS.get(said.get("code") or "")
    number = said.get("status")
    if named is not None:
        return from_wire(named.status, {CODE_HEADER: named.code}, data)
    if isinstance(number, int) and 400 <= number < 500:
        return from_wire(number, {}, data)
    return EngineFailed(str(said.get("message") or "The engine began its stream with an error")[:MESSAGE_CHARACTERS])


def _class_of(status: int, said: Mapping[str, Any]) -> type[RequestError]:
    if _CONTEXT_CODES & {said.get("code"), said.get("type")}:
        return ContextExceeded
    return _BY_STATUS.get(status) or (BadRequest if status < 500 else PeerFailed)


def error_object(body: bytes) -> dict[str, Any]:
    """What an error says: OpenAI's `{"error": {…}}`, Ollama's `{"error": "…"}`, FastAPI's `{"detail": "…"}`, or the
    object itself."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {"message": body[:200].decode("utf-8", "replace").strip()}
    if isinstance(said, dict):
        inner = said.get("error", said)
        if isinstance(inner, dict):
            found = {key: value for key, value in inner.items() if isinstance(value, str)}
            return {"message": found.get("detail"), "status": inner.get("code"), **found}
        return {"message": inner if isinstance(inner, str) else None}
    return {}


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text) / unit
    return None
