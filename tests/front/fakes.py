"""Answers, doors, replies and a raw client for the front's tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import h11
import trio
from trio.testing import memory_stream_pair

from meshnode.access import Wish
from meshnode.config.front import FrontSection
from meshnode.dialects import ModelCard
from meshnode.front import Doors, Keyring, make_asgi, open_listeners, serve
from meshnode.front.exchange import ASGIApp
from meshnode.front.server import Door
from meshnode.model.answer import Answer, WholeAnswer
from meshnode.model.ids import NodeId
from meshnode.model.job import Job

SECRET = "control-secret"
SECTION = FrontSection(api="127.0.0.1:0")
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream", "x-meshnode-node": "desk"}

WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
).encode()


def delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Script:
    """An answer that plays a list: bytes come out, numbers wait that many seconds, exceptions are raised."""

    def __init__(
        self, *steps: bytes | float | Exception, status: int = 200, headers: Mapping[str, str] = EVENTS
    ) -> None:
        self.status = status
        self.headers = headers
        self.trailers: Mapping[str, str] = {}
        self.closed = False
        self._steps = list(steps)

    def __aiter__(self) -> Script:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while self._steps:
            match self._steps.pop(0):
                case bytes() as data:
                    return data
                case Exception() as error:
                    raise error
                case seconds:
                    await trio.sleep(seconds)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


class Obedient:
    """A Control that answers with what it was told; `refusal` is raised instead where it is set."""

    refusal: Exception | None = None

    async def invite(
        self, expires_s: float | None, roles: tuple[str, ...] | None, owner: str, root: bool
    ) -> Mapping[str, Any]:
        return self._told(token="t", expires_s=expires_s, roles=roles, owner=owner, root=root)

    async def join(self, token: str) -> Mapping[str, Any]:
        return self._told(joined=token)

    async def leave(self, force: bool) -> Mapping[str, Any]:
        return self._told(left="home", force=force)

    async def rotate(self) -> Mapping[str, Any]:
        return self._told(generation=2)

    async def revoke(self, node: str, keep_invited: bool) -> Mapping[str, Any]:
        return self._told(node=node, keep_invited=keep_invited)

    async def trust(self, node: str, name: str) -> Mapping[str, Any]:
        return self._told(node=node, name=name)

    async def forget(self, node: str) -> Mapping[str, Any]:
        return self._told(node=node)

    async def pause(self, foreign_only: bool) -> Mapping[str, Any]:
        return self._told(takes="own" if foreign_only else "none")

    async def resume(self) -> Mapping[str, Any]:
        return self._told(takes="all")

    async def doctor(self) -> Mapping[str, Any]:
        return self._told(peers=0)

    async def add_key(self, wish: Wish) -> Mapping[str, Any]:
        return self._told(key="mk_", owner=wish.owner, expires_s=wish.expires_s)

    async def list_keys(self) -> Mapping[str, Any]:
        return self._told(keys=[])

    async def revoke_key(self, key: str) -> Mapping[str, Any]:
        return self._told(revoked=key)

    async def forget_key(self, key: str) -> Mapping[str, Any]:
        return self._told(forgotten=key)

    def _told(self, **what: Any) -> Mapping[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        return what


@dataclass
class Mesh:
    """The node behind the doors. `answer` makes what dispatch returns, or raises; `places` in a queue are told
    in turn."""

    answer: Callable[[Job], Answer | Awaitable[Answer]] = lambda job: WholeAnswer(200, JSON, WHOLE)
    jobs: list[Job] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    why_not_ready: str | None = None
    places: list[int] = field(default_factory=list)
    control: Obedient = field(default_factory=Obedient)
    keys: Keyring = field(default_factory=lambda: Keyring(control_secret=SECRET))

    async def dispatch(self, job: Job) -> Answer:
        self.jobs.append(job)
        try:
            found: Any = self.answer(job)
            return found if hasattr(found, "aclose") else await found
        except trio.Cancelled:
            self.cancelled.append(job.id)
            raise

    def doors(self) -> Doors:
        return Doors(
            me=NodeId(bytes(32)),
            dispatch=self.dispatch,
            models=lambda: [ModelCard("big/m:7b", context=4096, nodes=("desk",)), ModelCard("m")],
            status=lambda: {"nodes": []},
            graph=lambda: {"me": "desk"},
            health=lambda: {"node": "desk"},
            ready=lambda: self.why_not_ready,
            metrics=lambda: ("text/plain; version=0.0.4", b"up 1\n"),
            control=self.control,
            keys=self.keys,
            session_secret=b"s" * 32,
            queued=lambda _: self.places.pop(0) if self.places else 0,
        )

    def app(self, section: FrontSection = SECTION) -> ASGIApp:
        return make_asgi(self.doors(), section)


class Recorder:
    """A Reply that keeps what it is given, with the time."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.writes: list[tuple[float, bytes]] = []
        self.ended = False

    async def start(self, status: int, headers: Any) -> None:
        assert not self.status, "a reply starts once"
        await trio.lowlevel.checkpoint()
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}

    async def send(self, data: bytes, more: bool = True) -> None:
        assert self.status, "a reply starts before it is sent"
        assert not self.ended, "nothing follows the end"
        self.ended = not more
        await trio.lowlevel.checkpoint()
        if data:
            self.writes.append((trio.current_time(), data))

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.writes)


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    @property
    def error(self) -> dict[str, Any]:
        found = json.loads(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return dict(found)


class Client:
    """A client of one connection, as raw as a test needs it."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        await self.send(method, path, body, **headers)
        return await self.read()

    async def chat(self, stream: bool = False, **headers: str) -> Response:
        return await self.ask("POST", "/v1/chat/completions", chat_body(stream), **headers)

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"host": "127.0.0.1", **given}
        if method == "POST":
            sent = {"content-type": "application/json", "content-length": str(len(body)), **sent}
        request = h11.Request(method=method, target=path, headers=[*sent.items()])
        data = self._h11.send(request) or b""
        if body:
            data += self._h11.send(h11.Data(data=body)) or b""
        await self.stream.send_all(data + (self._h11.send(h11.EndOfMessage()) or b""))

    async def read(self) -> Response:
        """The next response, as much as comes of it."""
        if self._h11.our_state is h11.IDLE:  # bytes were sent around h11
            self._h11.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
            self._h11.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = b""
        whole = False
        while not whole:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError:
                break
            if event is h11.NEED_DATA:
                try:
                    self._h11.receive_data(await self.stream.receive_some())
                except trio.BrokenResourceError:
                    break
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                whole = True
            elif isinstance(event, h11.ConnectionClosed):
                break
        if head is None:
            return Response(0, {}, b"", False)
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Response(head.status_code, headers, body, whole)

    async def all(self) -> bytes:
        """Every byte until the server closes."""
        said = b""
        while data := await self.stream.receive_some():
            said += data
        return said

    async def is_closed(self) -> bool:
        """Whether the server has closed: waits for it, or for bytes."""
        try:
            return await self.stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


def chat_body(stream: bool = False) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()


@dataclass
class Served:
    """A door over real loopback sockets. `stopped` is set once it has ended."""

    port: int
    stop: trio.Event
    stopped: trio.Event
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        self.clients.append(Client(await trio.open_tcp_stream("127.0.0.1", self.port)))
        return self.clients[-1]

    async def raw(self, data: bytes) -> Client:
        client = await self.client()
        await client.stream.send_all(data)
        return client


@asynccontextmanager
async def served(app: ASGIApp, section: FrontSection = SECTION, grace_s: float = 10.0) -> AsyncIterator[Served]:
    """Serve an application until the block ends, which cancels what is left."""
    listeners = await open_listeners(section)
    found = Served(listeners[0].socket.getsockname()[1], trio.Event(), trio.Event())

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await serve(app, listeners, section, stop=found.stop, grace_s=grace_s, task_status=task_status)
        found.stopped.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield found
        finally:
            for client in found.clients:
                await trio.aclose_forcefully(client.stream)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def joined(app: ASGIApp, section: FrontSection = SECTION, pair: Any = None) -> AsyncIterator[Client]:
    """A client on a connection without a socket."""
    near, far = pair if pair is not None else memory_stream_pair()
    async with trio.open_nursery() as nursery:
        Door(app, section).admit(far, "memory", nursery)
        yield Client(near)
        nursery.cancel_scope.cancel()


def section(**changes: Any) -> FrontSection:
    return replace(SECTION, **changes)
