"""Asking a model from Python: what `Node.chat` and `Node.stream` return, and how a question becomes a job's body.

The same dispatch as the HTTP door uses, without HTTP. Not for other dialects. Counterpart: front.handlers.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec
import trio

from meshnode.dialects import CHAT, from_event, from_wire, read_facts
from meshnode.errors import EngineFailed, RequestError
from meshnode.model.answer import Answer
from meshnode.model.ids import NodeId
from meshnode.model.job import Job

_SECRET = secrets.token_bytes(32)
"""Under which the beginnings of conversations are hashed, so that their later turns find the same server."""

Messages = str | Sequence[Mapping[str, Any]]
"""A prompt, or OpenAI chat messages."""


EVENT_BYTES = 1 << 20
"""No engine writes longer events; a server that never ends one must not fill memory."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `usage` is the engine's own count; `route` the `x-meshnode-*` facts by their last words."""

    text: str
    usage: Mapping[str, int] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str = ""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    delta: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_completion = msgspec.json.Decoder(_Completion)


def body(model: str, messages: Messages, *, stream: bool, options: Mapping[str, Any]) -> bytes:
    """The JSON body of a chat request. `options` are OpenAI's fields, such as `max_tokens`."""
    listed = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return msgspec.json.encode({"model": model, "messages": listed, "stream": stream, **options})


def job(origin: NodeId, body: bytes, timeout_s: float) -> Job:
    """The job of a chat request that this program asks itself. Raises BadRequest."""
    return Job(
        id=f"req_{secrets.token_hex(12)}",
        route=CHAT,
        body=body,
        facts=read_facts(CHAT, body, {}, _SECRET),
        origin=origin,
        deadline=trio.current_time() + timeout_s,
    )


async def whole(answer: Answer) -> Reply:
    """Read an unstreamed answer to its end. Raises RequestError for what is not an answer."""
    data = bytearray()
    try:
        async for chunk in answer:
            data += chunk
    finally:
        with trio.CancelScope(shield=True):
            await answer.aclose()
    if answer.status != 200:
        raise from_wire(answer.status, answer.headers, bytes(data))
    completion = _decode(bytes(data))
    if not completion.choices:
        raise EngineFailed("the engine's answer has no choices")
    choice = completion.choices[0]
    return Reply(choice.message.content or "", _counts(completion), _route(answer), choice.finish_reason or "")


class ChatStream(AbstractAsyncContextManager["ChatStream"]):
    """`async with node.stream(…) as chunks: async for text in chunks: …`. Leaving the block cancels the request.

    After the end `usage` and `finish_reason` are filled where the engine told; `route` from the start.
    """

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._answer: Answer | None = None
        self._buffer = bytearray()
        self._ready: list[str] = []
        self._error: RequestError | None = None
        self.usage: Mapping[str, int] = {}
        self.route: Mapping[str, str] = {}
        self.finish_reason = ""

    async def __aenter__(self) -> ChatStream:
        self._answer = await self._ask()
        if self._answer.status != 200:
            await whole(self._answer)
        self.route = _route(self._answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            with trio.CancelScope(shield=True):
                await self._answer.aclose()

    def __aiter__(self) -> ChatStream:
        return self

    async def __anext__(self) -> str:
        if self._answer is None:
            raise RuntimeError("a stream is read inside `async with`")
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._take(await self._answer.__anext__())
        return self._ready.pop(0)

    def _take(self, data: bytes) -> None:
        self._buffer += data
        *events, rest = bytes(self._buffer).replace(b"\r\n", b"\n").split(b"\n\n")
        self._buffer = bytearray(rest)
        if len(rest) > EVENT_BYTES:
            raise EngineFailed(f"the answer has an event of more than {EVENT_BYTES} bytes")
        for event in events:
            payload = event.partition(b"data:")[2].strip()
            if payload and payload != b"[DONE]" and self._error is None:
                self._read(payload)

    def _read(self, payload: bytes) -> None:
        try:
            completion = _decode(payload)
        except EngineFailed as error:
            # Kept until the texts that came before it have been read.
            self._error = error
            return
        if completion.error is not None:
            self._error = from_event(b"data: " + payload)
            return
        self.usage = _counts(completion) or self.usage
        for choice in completion.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
            if choice.delta.content:
                self._ready.append(choice.delta.content)


def _decode(data: bytes) -> _Completion:
    try:
        return _completion.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EngineFailed("the engine's answer is not a chat completion") from error


def _counts(completion: _Completion) -> Mapping[str, int]:
    return {name: value for name, value in (completion.usage or {}).items() if isinstance(value, int)}


def _route(answer: Answer) -> Mapping[str, str]:
    prefix = "x-meshnode-"
    return {name[len(prefix) :]: value for name, value in answer.headers.items() if name.startswith(prefix)}
