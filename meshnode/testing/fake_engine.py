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

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from meshnode.testing import fake_http
from meshnode.testing.fake_http import Exchange

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
DIMENSIONS = 8


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
        if (needed := _prompt_tokens(asked)) > self.context:
            text = f"request ({needed} tokens) exceeds the available context size ({self.context} tokens)"
            await _error(exchange, 400, text, "exceed_context_size_error")
            return
        if path == "/v1/embeddings":
            record.first_byte_at = trio.current_time()
            await exchange.send_whole(200, msgspec.json.encode(_embeddings(asked, self.models[0])))
            return
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
        count = min(limit, behaviour.tokens) if isinstance(limit, int) else behaviour.tokens
        writer = _Writer(path, asked, self.models[0], count, _last_word(asked) + "." if behaviour.echo else "t")
        if asked.get("stream"):
            await self._stream(exchange, writer, behaviour, record)
            return
        await trio.sleep(behaviour.token_s * count)
        record.first_byte_at = trio.current_time()
        await _send_whole(exchange, writer.whole(), behaviour.end)

    async def _stream(self, exchange: Exchange, writer: _Writer, behaviour: Behaviour, record: Record) -> None:
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
            await exchange.send(_spoilt(event, behaviour.end) if index == behaviour.at else event)
        if behaviour.end != "unfinished":
            await exchange.send(writer.last())
        await exchange.finish()


class _Writer:
    """Bodies in OpenAI's shapes as llama-server writes them."""

    def __init__(self, path: str, asked: dict[str, Any], model: str, count: int, word: str) -> None:
        self.chat = path == "/v1/chat/completions"
        self.count = count
        self._word = word
        self._finish = "length" if asked.get("max_tokens") == count else "stop"
        self._usage = {"completion_tokens": count, "prompt_tokens": _prompt_tokens(asked)}
        self._usage["total_tokens"] = sum(self._usage.values())
        options = asked.get("stream_options")
        self._with_usage = bool(isinstance(options, dict) and options.get("include_usage"))
        self._base = {"created": 1, "id": "chatcmpl-fake", "model": model, "system_fingerprint": "fake"}
        self._kind = "chat.completion" if self.chat else "text_completion"

    def event(self, *, text: str = "", role: bool = False, finish: str | None = None) -> bytes:
        """One event of a stream."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.chat:
            choice["delta"] = {"role": "assistant", "content": None} if role else {"content": text} if text else {}
        else:
            choice["text"] = text
        return self._sse({"choices": [choice]})

    def token(self, index: int) -> bytes:
        """One event of text."""
        return self.event(text=self._text(index))

    def last(self) -> bytes:
        """The end of a stream: the reason, the usage where asked for, and the mark."""
        usage = self._sse({"choices": [], "usage": self._usage}) if self._with_usage else b""
        return self.event(finish=self._finish) + usage + b"data: [DONE]\n\n"

    def whole(self) -> bytes:
        """An answer that is not streamed."""
        text = "".join(map(self._text, range(self.count)))
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text, "logprobs": None}
        return msgspec.json.encode({"choices": [choice], **self._base, "object": self._kind, "usage": self._usage})

    def _text(self, index: int) -> str:
        return f"{self._word}{index} "

    def _sse(self, value: dict[str, Any]) -> bytes:
        kind = f"{self._kind}.chunk" if self.chat else self._kind
        return b"data: " + msgspec.json.encode({**value, **self._base, "object": kind}) + b"\n\n"


async def _send_whole(exchange: Exchange, body: bytes, end: str) -> None:
    if end == "die":
        exchange.die()
    elif end == "truncated":
        await exchange.send_half(200, body)
    else:
        await exchange.send_whole(200, _spoilt(body, end))


def _spoilt(data: bytes, end: str) -> bytes:
    """An event or a body that is no JSON, or no UTF-8, in framing that is right; for any other end as it was."""
    half = len(data) // 2
    if end == "json":
        return data[:half] + data[len(data.rstrip(b"\n")) :]
    return data[:half] + b"\xff" + data[half:] if end == "utf8" else data


def _last_word(asked: dict[str, Any]) -> str:
    """Of the last message, or of the prompt; nothing where it is not text."""
    messages = asked.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {"content": asked.get("prompt")}
    said = last.get("content") if isinstance(last, dict) else None
    return (said.split() or [""])[-1] if isinstance(said, str) else ""


def _prompt_tokens(asked: dict[str, Any]) -> int:
    """A token for each word: enough for a fake."""
    said = asked.get("messages") or asked.get("prompt") or asked.get("input") or ""
    return max(1, len(msgspec.json.encode(said).split()))


def _embeddings(asked: dict[str, Any], model: str) -> dict[str, Any]:
    said = asked.get("input")
    inputs = said if isinstance(said, list) and said and not isinstance(said[0], int) else [said]
    as_base64 = asked.get("encoding_format") == "base64"
    data = []
    for index, item in enumerate(inputs):
        digest = hashlib.sha256(msgspec.json.encode(item)).digest()
        floats = [byte / 255 for byte in digest[:DIMENSIONS]]
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *floats)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else floats})
    usage = {"prompt_tokens": _prompt_tokens(asked), "total_tokens": _prompt_tokens(asked)}
    return {"object": "list", "model": model, "data": data, "usage": usage}


async def _error(exchange: Exchange, status: int, message: str, kind: str) -> None:
    error = {"error": {"code": status, "message": message, "type": kind}}
    await exchange.send_whole(status, msgspec.json.encode(error))
