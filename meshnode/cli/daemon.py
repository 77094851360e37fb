"""Speaks to a node that runs on this machine, over its HTTP door, with the standard library only.

Not for the node's own traffic to engines and peers (engine.client, net). The other side is front.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from meshnode.errors import REQUEST_ERRORS, DecodeError, LinkClosed, MeshnodeError, RequestError

CONNECT_TIMEOUT_S = 5.0
"""Loopback connects in microseconds; `--api` may name a machine across the world."""
LISTING_TIMEOUT_S = 15.0
CHANGE_TIMEOUT_S = 90.0
"""Joining dials several addresses, each with a time limit of its own."""
ANSWER_SILENCE_S = 960.0
"""A little longer than the node's own limit for a first token, so that its message is the one that is read."""

CONTROL_PREFIX = "/mesh/"
"""Posting here needs the secret always; elsewhere it is shown only to a node that asks for a key."""
GUARDED_PREFIX = "/mesh/requests"
"""Reading needs it here."""

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


class NotRunning(MeshnodeError):
    """No node answers where one was looked for. The message says how to start it."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running node's door. `api` is its URL without path; `secret` is the own home's, or an API key."""

    api: str
    secret: str = field(default="", repr=False)

    def get(self, path: str) -> Any:
        """The JSON at `path`. Raises NotRunning, LinkClosed, RequestError, DecodeError."""
        with self._asked("GET", path, None, LISTING_TIMEOUT_S) as response:
            return _document(response.read())

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change something and return the JSON that came back. Raises as `get`."""
        with self._asked("POST", path, body, CHANGE_TIMEOUT_S) as response:
            return _document(response.read())

    def answers(self) -> bool:
        """Whether a node is there at all; it may still be busy starting."""
        try:
            with self._asked("GET", "/healthz", None, CONNECT_TIMEOUT_S):
                return True
        except MeshnodeError:
            return False

    @contextmanager
    def streamed(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The lines of a streamed answer. Raises as `get`, also from the iterator."""
        with self._asked("POST", path, body, ANSWER_SILENCE_S) as response:
            yield iter(response.readline, b"")

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, silence_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        show = bool(self.secret) and path.startswith(CONTROL_PREFIX if method == "POST" else GUARDED_PREFIX)
        try:
            with self._sent(method, path, body, silence_s, show=show) as response:
                if response.status != 401 or show or not self.secret:
                    yield _accepted(response)
                    return
            with self._sent(method, path, body, silence_s, show=True) as response:
                yield _accepted(response)
        except ConnectionRefusedError as error:
            raise NotRunning(f"no meshnode answers at {self.api}; start one with: meshnode up") from error
        except socket.gaierror as error:
            raise NotRunning(f"{self.api} is not an address of a node: {error.strerror}") from error
        except (OSError, http.client.HTTPException) as error:
            raise LinkClosed(f"{self.api} broke off: {error or type(error).__name__}") from error

    @contextmanager
    def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, silence_s: float, *, show: bool
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _connection(self.api)
        headers = {"accept": "application/json, text/event-stream"}
        if body is not None:
            headers["content-type"] = "application/json"
        if show:
            headers["authorization"] = f"Bearer {self.secret}"
        try:
            connection.connect()
            connection.sock.settimeout(silence_s)
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()


def _accepted(response: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """The response, unless it is a refusal, which is raised."""
    if response.status >= 400:
        raise refusal(response.read(), response.status)
    return response


def refusal(body: bytes, status: int = 500) -> RequestError:
    """The error a node's answer body describes, with the node's own words."""
    try:
        described = json.loads(body)["error"]
        message, code = str(described["message"]), described.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body.decode(errors="replace").strip()
        return RequestError(f"the node answered with status {status}: {text[:200] or 'no text'}")
    return REQUEST_ERRORS.get(str(code), RequestError)(message)


def fields(answer: Any, needed: str) -> dict[str, Any]:
    """The node's answer to a change, which has at least this field. Raises DecodeError."""
    if not isinstance(answer, dict) or needed not in answer:
        raise DecodeError(f"the node's answer has no {needed}; is it another version of meshnode?")
    return answer


def _connection(api: str) -> http.client.HTTPConnection:
    parts = urlsplit(api if "://" in api else f"http://{api}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise NotRunning(f"{api} is not an address: {error}") from error
    host = _WILDCARDS.get(host, host)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=CONNECT_TIMEOUT_S)


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise DecodeError(f"the node's answer is not JSON: {body[:80]!r}") from error
