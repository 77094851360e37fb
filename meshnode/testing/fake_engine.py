"""A llama-server without a model: the same endpoints and shapes, exact control of time, and faults on demand.

For tests of anything that speaks to an engine, yours included. Text is `t0 t1 t2 …`, or numbered by the prompt's last
word; every request is recorded, with whether its client left before the end. Not for measuring speed. Counterpart:
`meshnode.engine`.

    async with trio.open_nursery() as nursery:
        fake = FakeEngine()
        await nursery.start(fake.run)
        ...  # requests to fake.url
        await fake.cut()  # until a client has left before its answer's end
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from meshnode.testing import fake_http
from meshnode.testing.fake_http import Exchange
from meshnode.testing.fake_words import Writer, embeddings, last_word, prompt_tokens, spoilt

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request meets. Set for all on the engine, or for one as the JSON field `fake` of its body.

    `tokens` is how many come where the request names no `max_tokens`; `prefill_s` passes before the first and
    `token_s` between them. `status` answers with that error instead. `hang` is "prefill" (no head ever), or "stream"
    (nothing after `at` tokens). `end` is how an answer ends: "whole", "die" (a bare EOF after `at` tokens),
    "truncated" (half an event after `at` tokens, then a proper end of HTTP), "unfinished" (a proper end of HTTP with
    neither `finish_reason` nor `[DONE]`), or whole but for its token number `at`: "json" (half an event in proper
    framing) or "utf8" (a byte that no text has). One that is not streamed is spoilt alike; "truncated" is then half of
    the length that its head says. With `echo` the text names its request: `hello.0 hello.1 …` for a prompt that ends
    with "hello".
    """

    tokens: int = 4
    prefill_s: float = 0.0
    token_s: float = 0.0
    status: int = 0
    hang: str = ""
    end: str = "whole"
    at: int = 1
    echo: bool = False


@dataclass
class Record:
    """One request the fake was sent. Times on trio's clock; None where it has not happened."""

    path: str
    headers: dict[str, str]
    body: bytes
    started_at: float
    first_byte_at: float | None = None
    ended_at: float | None = None
    cut: bool = False

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


@dataclass
class FakeEngine:
    """A fake llama-server on a port of its own.

    `slots` requests run at once, more wait, as a real one does. `behaviour` holds for requests that bring none.
    `loading` makes it answer 503 as a server does that reads its model. `records` has every generating request.
    """

    models: tuple[str, ...] = ("fake-model",)
    slots: int = 4
    context: int = 4096
    behaviour: Behaviour = field(default_factory=Behaviour)
    loading: bool = False
    port: int = 0
    records: list[Record] = field(default_factory=list, init=False)
    running: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._free = trio.Semaphore(self.slots)
        self._news = trio.Event()
        self._life: trio.CancelScope | None = None
        self._revived = trio.Event()

    @property
    def url(self) -> str:
        """Where it answers; the port is chosen at the first `run`."""
        return f"http://127.0.0.1:{self.port}"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, through any number of deaths. Started once it listens."""
        while True:
            with trio.CancelScope() as self._life:
                listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
                self.port = listeners[0].socket.getsockname()[1]
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.serve_listeners(self.serve_stream, listeners)
            await self._revived.wait()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, a socket or a `trio.testing.memory_stream_pair` end."""
        await fake_http.serve(stream, self._respond, self._was_cut)

    def die(self) -> None:
        """End as a killed process does: every connection broken, new ones refused, until `revive`."""
        self._revived = trio.Event()
        if self._life is not None:
            self._life.cancel()

    def revive(self) -> None:
        """Listen again on the same port."""
        self._revived.set()

    async def started(self, count: int = 1) -> list[Record]:
        """Wait until `count` generating requests have come."""
        while len(self.records) < count:
            await self._news.wait()
        return self.records[:count]

    async def cut(self, count: int = 1) -> list[Record]:
        """Wait until `count` generating requests were left by their client before the end."""
        while len(found := [record for record in self.records if record.cut]) < count:
            await self._news.wait()
        return found

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    def _was_cut(self, exchange: Exchange) -> None:
        for record in reversed(self.records):
            if record.body is exchange.body:
                record.cut = True
                break
        self._tell()

    async def _respond(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0]
        if self.loading:
            await _error(exchange, 503, "Loading model", "unavailable_error")
        elif exchange.method == "GET":
            answers = {"/health": self._health, "/v1/models": self._models, "/props": self._props}
            if path in answers:
                await exchange.send_whole(200, msgspec.json.encode(answers[path]()))
            else:
                await _error(exchange, 404, "File Not Found", "not_found_error")
        elif path in GENERATING:
            await self._generating(path, exchange)
        else:
            await _error(exchange, 404, "File Not Found", "not_found_error")

    def _health(self) -> Any:
        return {"status": "ok"}

    def _models(self) -> Any:
        meta = {"n_ctx": self.context, "n_ctx_train": self.context, "n_params": 1}
        return {
            "object": "list",
            "data": [
                {"id": model, "object": "model", "created": 1, "owned_by": "llamacpp", "meta": meta}
                for model in self.models
            ],
        }

    def _props(self) -> Any:
        return {
            "default_generation_settings": {"n_ctx": self.context},
            "total_slots": self.slots,
            "model_path": self.models[0] if self.models else "",
            "modalities": {"vision": False, "audio": False},
            "chat_template_caps": {"supports_tools": True},
        }

    async def _generating(self, path: str, exchange: Exchange) -> None:
        record = Record(path, dict(exchange.headers), exchange.body, trio.current_time())
        self.records.append(record)
        self._tell()
        try:
            asked = msgspec.json.decode(exchange.body, type=dict[str, Any])
            behaviour = msgspec.convert(asked["fake"], Behaviour) if "fake" in asked else self.behaviour
        except msgspec.MsgspecError as error:
            await _error(exchange, 400, f"parse error: {error}", "invalid_request_error")
            return
        async with self._free:
            self.running += 1
            try:
                await self._generate(path, exchange, asked, behaviour, record)
            finally:
                record.ended_at = trio.current_time()
                self.running -= 1
                self._tell()

    async def _generate(
        self, path: str, exchange: Exchange, asked: dict[str, Any], behaviour: Behaviour, record: Record
    ) -> None:
        await trio.sleep(behaviour.prefill_s)
        if behaviour.hang == "prefill":
            await trio.sleep_forever()
        if behaviour.status:
            await _error(exchange, behaviour.status, "asked to fail", "server_error")
            return
        if (needed := prompt_tokens(asked)) > self.context:
            text = f"request ({needed} tokens) exceeds the available context size ({self.context} tokens)"
            await _error(exchange, 400, text, "exceed_context_size_error")
            return
        if path == "/v1/embeddings":
            record.first_byte_at = trio.current_time()
            await exchange.send_whole(200, msgspec.json.encode(embeddings(asked, self.models[0])))
            return
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
        count = min(limit, behaviour.tokens) if isinstance(limit, int) else behaviour.tokens
        writer = Writer(path, asked, self.models[0], count, last_word(asked) + "." if behaviour.echo else "t")
        if asked.get("stream"):
            await self._stream(exchange, writer, behaviour, record)
            return
        await trio.sleep(behaviour.token_s * count)
        record.first_byte_at = trio.current_time()
        await _send_whole(exchange, writer.whole(), behaviour.end)

    async def _stream(self, exchange: Exchange, writer: Writer, behaviour: Behaviour, record: Record) -> None:
        await exchange.begin()
        record.first_byte_at = trio.current_time()
        if writer.chat:
            await exchange.send(writer.event(role=True))
        for index in range(writer.count):
            if index == behaviour.at:
                if behaviour.hang == "stream":
                    await trio.sleep_forever()
                if behaviour.end == "die":
                    exchange.die()
                    return
                if behaviour.end == "truncated":
                    event = writer.token(index)
                    await exchange.send(event[: len(event) // 2])
                    await exchange.finish()
                    return
            if index:
                await trio.sleep(behaviour.token_s)
            event = writer.token(index)
            await exchange.send(spoilt(event, behaviour.end) if index == behaviour.at else event)
        if behaviour.end != "unfinished":
            await exchange.send(writer.last())
        await exchange.finish()


async def _send_whole(exchange: Exchange, body: bytes, end: str) -> None:
    if end == "die":
        exchange.die()
    elif end == "truncated":
        await exchange.send_half(200, body)
    else:
        await exchange.send_whole(200, spoilt(body, end))


async def _error(exchange: Exchange, status: int, message: str, kind: str) -> None:
    error = {"error": {"code": status, "message": message, "type": kind}}
    await exchange.send_whole(status, msgspec.json.encode(error))
