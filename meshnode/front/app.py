"""The front door's complete application, on Quart: every route, each error an OpenAI error object.

Not for limits of connections (guard) nor for what an answer is (handlers). Counterpart: asgi.InferenceLane, the short
way for the inference routes, which this serves too.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import msgspec
from quart import Response, g, request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import HTTPException

from meshnode.config.front import FrontSection
from meshnode.dialects import http_error, http_problem, model_body, model_list
from meshnode.errors import (
    BadRequest,
    BodyTooLarge,
    ConfigError,
    DecodeError,
    IdentityError,
    LinkError,
    MeshnodeError,
    PeerFailed,
    RequestError,
)
from meshnode.front.asgi import INFERENCE_ROUTES, SLOW_BODY, AsgiReply, InferenceLane, cors_headers, header_map
from meshnode.front.control import ROUTES, obey
from meshnode.front.doors import Doors
from meshnode.front.dry_run import explained
from meshnode.front.exchange import ASGIApp
from meshnode.front.gate import Gate
from meshnode.front.handlers import Incoming, infer, models_for, request_id_of
from meshnode.front.requests import add_requests
from meshnode.observe import log

logger = log.get("front")

JSON = "application/json"


class _Inference(TrioResponse):
    """A response that is still to be made: the connection runs the handlers, which write it."""

    incoming: Incoming


class _Connection(TrioASGIHTTPConnection):
    """Quart's connection, in whose task the handlers run, so that a client's leaving cancels them."""

    app: _Application

    async def _send_response(self, send: Any, response: Any) -> None:
        if not isinstance(response, _Inference):
            await super()._send_response(send, response)
            return
        reply = AsgiReply(send, cors_headers(response.incoming.headers, self.app.gate))
        await infer(response.incoming, self.app.doors, self.app.section, reply)


class _Application(QuartTrio):
    asgi_http_class = _Connection

    def __init__(self, doors: Doors, section: FrontSection) -> None:
        super().__init__("meshnode", static_folder=None)
        self.doors = doors
        self.section = section
        self.gate = Gate(section)
        self.config["MAX_CONTENT_LENGTH"] = section.body_limit_bytes
        self.config["BODY_TIMEOUT"] = section.body_timeout_s
        self.config["RESPONSE_TIMEOUT"] = None  # streams last as long as their deadline

    def log_exception(self, exc_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]) -> None:
        """Where a handler crashed, without the text of the error (it may quote the client)."""
        if isinstance(exc_info[1], Exception):
            log.crash(logger, "request crashed", exc_info[1], path=request.path)


def make_app(doors: Doors, section: FrontSection) -> QuartTrio:
    """The Quart application with every route."""
    app = _Application(doors, section)
    _guard_requests(app)
    _shape_errors(app)
    _add_openai(app)
    _add_pages(app)
    _add_control(app)
    add_requests(app, doors)
    return app


def make_asgi(doors: Doors, section: FrontSection) -> ASGIApp:
    """What a node serves: the Quart application with the short way in front of it."""
    return InferenceLane(make_app(doors, section), doors, section)


def _headers() -> dict[str, str]:
    return header_map(request.scope["headers"])


async def _body() -> bytes:
    data = await request.get_data()
    assert isinstance(data, bytes)
    return data


def _json(body: bytes, status: int = 200) -> Response:
    return TrioResponse(body, status, content_type=JSON)


def _guard_requests(app: _Application) -> None:
    @app.before_request
    async def check() -> Response | None:
        headers = _headers()
        app.gate.check(request.method, headers)
        if request.method == "OPTIONS" and "access-control-request-method" in headers:
            return TrioResponse(b"", 204)
        g.caller = app.doors.keys.admit_to(request.path, headers)
        return None

    @app.after_request
    async def finish(response: Response) -> Response:
        headers = _headers()
        response.headers.setdefault("x-request-id", request_id_of(headers))
        for name, value in cors_headers(headers, app.gate):
            response.headers[name.decode()] = value.decode("latin-1")
            if request.method == "OPTIONS":
                response.headers["access-control-allow-methods"] = "GET, POST"
                response.headers["access-control-allow-headers"] = headers.get("access-control-request-headers", "")
        return response


def _shape_errors(app: _Application) -> None:
    @app.errorhandler(RequestError)
    async def of_a_request(error: RequestError) -> Response:
        status, headers, body = http_error(error)
        return TrioResponse(body, status, headers)

    @app.errorhandler(MeshnodeError)
    async def of_the_mesh(error: MeshnodeError) -> Response:
        match error:
            case LinkError():
                return await of_a_request(PeerFailed(str(error)))
            case IdentityError() | DecodeError() | ConfigError():
                return await of_a_request(BadRequest(str(error)))
            case _:
                return await of_a_request(RequestError("The node failed at this"))

    @app.errorhandler(HTTPException)
    async def of_http(error: HTTPException) -> Response:
        match error.code:
            case 413:
                limit = app.section.body_limit_bytes
                found = http_error(BodyTooLarge(f"The request body is larger than the {limit} bytes accepted here"))
            case 408:
                found = http_problem(408, SLOW_BODY)
            case 404:
                found = http_problem(404, f"There is nothing at {request.method} {request.path[:200]}")
            case 405:
                found = http_problem(405, f"{request.path[:200]} does not take {request.method}")
            case code:
                found = http_problem(code or 500, error.name)
        status, headers, body = found
        response = TrioResponse(body, status, headers)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers["allow"] = value
        return response


def _add_openai(app: _Application) -> None:
    async def inference() -> Response:
        response = _Inference(b"")
        response.incoming = Incoming("POST", request.path, _headers(), await _body(), g.caller)
        return response

    for route in sorted(INFERENCE_ROUTES):
        app.add_url_rule(route, route, inference, methods=["POST"])

    @app.get("/v1/models")
    async def models() -> Response:
        return _json(model_list(models_for(g.caller, app.doors)))

    @app.get("/v1/models/<path:model>")
    async def model(model: str) -> Response:
        return _json(model_body(models_for(g.caller, app.doors), model))


def _add_pages(app: _Application) -> None:
    @app.get("/")
    async def root() -> Response:
        base = f"http://{_headers().get('host', app.section.api)}/v1"
        return _json(msgspec.json.encode({"service": "meshnode", "openai_base_url": base, "models": f"{base}/models"}))

    @app.get("/healthz")
    async def healthz() -> Response:
        return _json(msgspec.json.encode({"status": "ok", **app.doors.health()}))

    @app.get("/readyz")
    async def readyz() -> Response:
        reason = app.doors.ready()
        if reason is None:
            return _json(b'{"status":"ready"}')
        status, headers, body = http_problem(503, f"This node is {reason}")
        said = {"status": reason, **msgspec.json.decode(body)}
        return TrioResponse(msgspec.json.encode(said), status, {**headers, "retry-after": "1"})

    @app.get("/metrics")
    async def metrics() -> Response:
        kind, body = app.doors.metrics()
        return TrioResponse(body, 200, content_type=kind)

    @app.get("/mesh/status")
    async def status() -> Response:
        return _json(msgspec.json.encode(app.doors.status()))

    @app.post("/mesh/explain")
    async def explain() -> Response:
        return _json(explained(_headers(), g.caller, await _body(), app.doors, app.section))

    @app.get("/mesh/graph")
    async def graph() -> Response:
        return _json(msgspec.json.encode(app.doors.graph()))


def _add_control(app: _Application) -> None:
    async def control() -> Response:
        app.doors.keys.command(_headers())
        assert request.endpoint is not None
        return _json(await obey(request.endpoint, await _body(), app.doors.control))

    for route in ROUTES:
        app.add_url_rule(route, route, control, methods=["POST"])
