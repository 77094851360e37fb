"""HTTP heads, both doors: an engine's answers as the client reads them, a client's requests as the front reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState

from meshnode.config.engine import EngineSection
from meshnode.engine.client import EngineClient
from meshnode.engine.connection import Connection
from meshnode.errors import EngineFailed
from meshnode.front.protocol import PlainProtocol, ServerConfig
from tests.fuzz.kit import Draw, cut, finish, in_words, mutate

ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: application/json\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
    b"5\r\ndata:\r\n3;x=y\r\n a\n\r\n0\r\nt: v\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil it closes",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
)
REQUESTS = (
    b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
    b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\xff",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
)
LIMITS = EngineSection(head_limit_bytes=512, answer_limit_bytes=2048)
BODY_LIMIT = 1024


def one_input(data: bytes) -> None:
    draw = Draw(data)
    pattern = draw.take(4)
    answers = draw.flag()
    known = ANSWERS if answers else REQUESTS
    valid = b"".join(known[draw.number(len(known))] for _ in range(draw.number(4)))
    wire = mutate(valid, draw) if valid else draw.rest()
    if answers:
        first, whole = _read_answer(cut(wire, pattern)), _read_answer(cut(wire, b""))
        # An answer that is too long, or wrong behind its end, may be found out at another byte.
        assert None in (first, whole) or first == whole, "the cut decides"
    else:
        _serve(cut(wire, pattern))


class _Pipe:
    """A stream that has everything already, and then ends."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    async def send_all(self, data: bytes) -> None:
        pass

    async def receive_some(self, limit: int) -> bytes:
        return next(self._pieces, b"")


def _read_answer(pieces: Iterable[bytes]) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers and body; None for what is refused."""
    client = EngineClient("http://127.0.0.1:1", LIMITS)
    connection = Connection(_Pipe(pieces), client)  # type: ignore[arg-type]
    try:
        finish(connection.exchange(b"", last=True))
        assert connection.head_done and 200 <= connection.status <= 999
        assert sum(len(name) + len(value) for name, value in connection.headers.items()) <= 2 * 4065
        body = connection.take()
        while not connection.complete:
            finish(connection.read())
            body += connection.take()
    except EngineFailed as error:
        in_words(error)
        return None
    return connection.status, connection.headers, body


class _Flag:
    """Hypercorn's event where nothing ever waits."""

    def __init__(self) -> None:
        self._set = False

    async def set(self) -> None:
        self._set = True

    async def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        assert self._set, "the connection waits for what never comes"

    def is_set(self) -> bool:
        return self._set


class _Context:
    """Hypercorn's worker."""

    event_class = _Flag

    def __init__(self) -> None:
        self.terminated = _Flag()

    async def mark_request(self) -> None:
        pass


class _Applications:
    """In the place of Exchanges: an application that answers once it has the whole request."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]) -> Any:
        self.scopes.append(scope)
        body = bytearray()

        async def put(event: Any) -> None:
            if event["type"] == "http.request":
                body.extend(event["body"])
                if not event["more_body"]:
                    length = [(b"content-length", b"2")]
                    await send({"type": "http.response.start", "status": 200, "headers": length})
                    await send({"type": "http.response.body", "body": b"ok", "more_body": False})

        return put


def _serve(pieces: Iterable[bytes]) -> None:
    said, ended = bytearray(), False

    async def send(event: Event) -> None:
        nonlocal ended
        assert not (ended and isinstance(event, RawData)), "it speaks after its end"
        if isinstance(event, RawData):
            said.extend(event.data)
        ended = ended or isinstance(event, Closed)

    applications = _Applications()
    protocol = PlainProtocol(
        None, ServerConfig(), _Context(), applications, ConnectionState({}), False, None, None, send  # type: ignore[arg-type]
    )  # fmt: skip
    protocol.body_limit_bytes = BODY_LIMIT
    for piece in pieces:
        finish(protocol.handle(RawData(piece)))
        if ended:
            break
    finish(protocol.handle(Closed()))
    assert not said or said.startswith(b"HTTP/1.1 "), "no answer of HTTP/1.1"
    for scope in applications.scopes:
        assert scope["path"].startswith("/") and scope["http_version"] in ("1.0", "1.1")
        names = [name for name, _ in scope["headers"]]
        assert names.count(b"host") <= 1
        assert all(b"\r" not in value and b"\n" not in value and b"\0" not in value for _, value in scope["headers"])


def seeds() -> dict[str, bytes]:
    """Each kind of answer and of request."""
    return {
        "length": b"\x10\x20\x30\x40" + b"\x01\x01\x00",
        "chunked": b"\x08\x08\x08\x08" + b"\x01\x01\x01",
        "two-answers": b"\xff\x00\x00\x10" + b"\x01\x02\x02\x03",
        "upgrade": b"\xff" * 4 + b"\x01\x01\x05",
        "pipelined": b"\x18" * 4 + b"\x00\x03\x00\x01\x02",
        "expect": b"\x18" * 4 + b"\x00\x01\x03",
        "smuggled": b"\x18" * 4 + b"\x00\x00" + b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        "head-refused": b"\x18" * 4 + b"\x00\x00" + b"HEAD * HTTP/1.1\r\nhost: a\r\n\r\n",
        "head-in-lower-case": b"\x18" * 4 + b"\x00\x00" + b"head /x HTTP/1.1\r\nhost: a\r\n\r\n",
        "other-protocols": b"\xff" * 4 + b"\x00\x03\x05\x04\x06",
    }
