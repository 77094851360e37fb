"""Speaks HTTP/1.1 to one engine: a pool of kept-alive connections, llhttp as the parser, bytes passed on as they came.

The hot path of every local answer: no scope, nursery or lock per chunk, and a pool that costs the same for one
connection as for a thousand. Not for what the bytes mean (adapter.py), nor for choosing an engine (engines.py).
Counterpart: the engine's own HTTP server.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.connection import Connection
from meshnode.errors import BadRequest, EngineDown, EngineFailed
from meshnode.net.socket_stream import connect

Connect = Callable[[], Awaitable[trio.abc.Stream]]


class EngineAnswer:
    """A `meshnode.model.answer.Answer` read from an engine.

    Each step returns all that one read brought. A body cut short raises EngineFailed. `aclose` before the end closes
    the connection, which is how an engine learns that its slot is free.
    """

    __slots__ = ("_client", "_connection", "headers", "status", "trailers")

    def __init__(self, client: EngineClient, connection: Connection) -> None:
        self._client = client
        self._connection: Connection | None = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.trailers: Mapping[str, str] = {}

    def __aiter__(self) -> EngineAnswer:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        try:
            while not connection.body and not connection.complete:
                await connection.read()
        except BaseException:
            # Unless `aclose` came meanwhile, which has dropped it.
            if self._connection is not None:
                self._connection = None
                self._client.drop(connection)
            raise
        chunk = connection.take()
        if connection.complete:
            self._connection = None
            self._client.give_back(connection)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.drop(connection)


class EngineClient:
    """Requests to one base URL. Never follows a redirect, never asks the environment for a proxy.

    `active` counts the answers not yet ended; `unreachable` is set by a connection that could not be made, and renewed
    by whoever has seen to it. `dial` replaces the socket in tests.
    """

    def __init__(self, url: str, section: EngineSection | None = None, *, dial: Connect | None = None) -> None:
        self.url = base_url(url)
        self.section = section if section is not None else EngineSection()
        self.active = 0
        self.unreachable = trio.Event()
        self._idle: deque[Connection] = deque()
        parts = urlsplit(self.url)
        if "@" in self.url or "?" in self.url or "#" in self.url:
            # Not repeated: what stands there is a secret, and an engine's URL is shown to people and told to peers.
            raise EngineFailed("an engine's URL is http://host:port, without a user, a password or a query")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineFailed(f"an engine's URL is http://host:port, not {url!r:.100}")
        self._host, self._secure = parts.hostname, parts.scheme == "https"
        try:
            self._port = parts.port or (443 if self._secure else 80)
        except ValueError as error:
            raise EngineFailed(f"an engine's URL is http://host:port, not {url!r:.100}") from error
        self._prefix = parts.path
        self._head = f" HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode()
        self._connect = dial if dial is not None else self._dial
        self._tls: ssl.SSLContext | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> EngineAnswer:
        """Send one request and return once the answer's head is there.

        A kept-alive connection that turns out dead before any byte of an answer came is replaced once: the engine
        closed it while it lay idle. Raises EngineFailed, and BadRequest where a header cannot be sent.
        """
        message = self._message(method, path, headers, body)
        self.active += 1
        connection: Connection | None = None
        try:
            if self._idle:
                connection = self._idle.pop()
                if not await connection.exchange(message, last=False):
                    connection.close()
                    connection = None
            if connection is None:
                connection = await self._open()
                await connection.exchange(message, last=True)
        except BaseException:
            self.active -= 1
            if connection is not None:
                connection.close()
            raise
        return EngineAnswer(self, connection)

    async def read(
        self, method: str, path: str, body: bytes = b"", *, limit: int = 4 * 1024 * 1024
    ) -> tuple[int, bytes]:
        """One small request whose answer is wanted whole (probes): its status and its body, at most `limit` bytes."""
        headers = {"content-type": "application/json"} if body else None
        answer = await self.request(method, path, headers, body)
        return answer.status, await whole(answer, limit)

    def give_back(self, connection: Connection) -> None:
        """Its answer ended: keep it for the next request if both ends may."""
        self.active -= 1
        if connection.reusable and len(self._idle) < self.section.idle_connections:
            connection.renew()
            self._idle.append(connection)
        else:
            connection.close()

    def drop(self, connection: Connection) -> None:
        """Its answer will not be read to the end."""
        self.active -= 1
        connection.close()

    def prune(self) -> None:
        """Close the idle connections that the engine has ended meanwhile."""
        for _ in range(len(self._idle)):
            connection = self._idle.popleft()
            if connection.quiet():
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close every idle connection. The client may still be used."""
        while self._idle:
            self._idle.pop().close()

    def _message(self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
        if (
            path.isascii()
            and path.isprintable()
            and lines.count("\n") == len(headers or ()) == lines.count("\r")
            and " " not in path
        ):
            try:
                length = f"content-length: {len(body)}\r\n\r\n" if body or method == "POST" else "\r\n"
                start = f"{method} {self._prefix}{path}".encode("ascii")
                return b"".join((start, self._head, lines.encode("latin-1"), length.encode(), body))
            except UnicodeEncodeError:
                pass
        raise BadRequest("a path or header cannot be sent as HTTP/1.1")

    async def _open(self) -> Connection:
        timeout_s = self.section.connect_timeout_s
        with trio.move_on_after(timeout_s):
            try:
                return Connection(await self._connect(), self)
            except (OSError, trio.BrokenResourceError) as error:
                raise self._unreachable(_reason(error)) from error
        raise self._unreachable(f"no connection within {timeout_s:g} s")

    def _unreachable(self, reason: str) -> EngineDown:
        self.unreachable.set()
        return EngineDown(f"the engine at {self.url} is not reachable: {reason}")

    async def _dial(self) -> trio.abc.Stream:
        stream = await connect(self._host, self._port)
        if not self._secure:
            return stream
        if self._tls is None:
            self._tls = ssl.create_default_context()
        secure = trio.SSLStream(stream, self._tls, server_hostname=self._host, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            stream.close()
            raise
        return secure


def base_url(url: str) -> str:
    """The one spelling of an engine's URL: paths begin with `/v1` themselves."""
    return url.rstrip("/").removesuffix("/v1")


async def whole(answer: EngineAnswer, limit: int) -> bytes:
    """All of an answer's body. Raises EngineFailed when it is longer than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in answer:
            size += len(chunk)
            if size > limit:
                raise EngineFailed(f"the engine's answer is longer than {limit} bytes")
            parts.append(chunk)
    finally:
        await answer.aclose()
    return b"".join(parts)


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
        return _reason(cause.exceptions[0])
    if isinstance(error, trio.BrokenResourceError) and cause is not None:
        # TLS: what went wrong is said by the ssl module.
        return str(cause)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
