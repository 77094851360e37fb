"""An answer of Anthropic's Messages API as OpenAI's chat completions say it: whole, and event by event. Pure.

`Translation` works over any cut of the bytes: `receive(data)` returns what may be passed on, `end()` judges how it
ended. Not for reading sockets (engine.cloud). Counterpart: anthropic.py, which made the request.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from meshnode.dialects.sse import Usage
from meshnode.dialects.status import DONE, error_body
from meshnode.errors import EngineFailed

EVENT_BYTES: Final = 1024 * 1024
"""The longest event read; theirs have a few hundred bytes."""


_REASONS: Final = {"max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_calls",
                   "refusal": "content_filter"}  # fmt: skip
"""`stop_reason` as `finish_reason`; every other one is "stop"."""


def whole(body: bytes, model: str, created: int) -> tuple[bytes, Usage]:
    """A message as a `chat.completion`, and its tokens. Raises EngineFailed for what is no message."""
    said = _object(body)
    if said.get("type") != "message" or not isinstance(said.get("content"), list):
        raise EngineFailed("the answer is no message of Anthropic's API")
    texts, thoughts, calls = [], [], []
    for block in said["content"]:
        match block:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "thinking", "thinking": str(thought)}:
                thoughts.append(thought)
            case {"type": "tool_use", "id": str(call), "name": str(name)}:
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                calls.append({"id": call, "type": "function", "function": {"name": name, "arguments": arguments}})
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    usage = _usage(said.get("usage"))
    completion = {
        "id": str(said.get("id", "")),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(said)}],
        "usage": _usage_object(usage),
    }
    return msgspec.json.encode(completion), usage


class Translation:
    """One stream. `usage` grows as it is told; `begun` once a message was. `shows_usage`: the client asked for it."""

    def __init__(self, model: str, created: int, *, shows_usage: bool) -> None:
        self.usage = Usage(0, 0)
        self.begun = False
        self._model = model
        self._created = created
        self._shows_usage = shows_usage
        self._id = ""
        self._calls = -1
        self._held = b""
        self._over = False

    def receive(self, data: bytes) -> bytes:
        """What these bytes mean. Raises EngineFailed for what is no stream of theirs."""
        *events, self._held = (self._held + data).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._held) > EVENT_BYTES:
            raise EngineFailed("an event of the answer does not end")
        return b"".join([self._event(event) for event in events])

    def end(self) -> None:
        """The bytes are over. Raises EngineFailed when the message was not."""
        if not self._over:
            raise EngineFailed("the provider ended the stream before it said it was done")

    def _event(self, event: bytes) -> bytes:
        data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if not data or self._over:
            return b""
        said = _object(data)
        match said.get("type"):
            case "message_start":
                return self._start(_table(said, "message"))
            case "content_block_start":
                return self._block(_table(said, "content_block"))
            case "content_block_delta":
                return self._delta(_table(said, "delta"))
            case "message_delta":
                self._count(said.get("usage"))
                reason = _table(said, "delta").get("stop_reason")
                return self._chunk({}, _reason({"stop_reason": reason})) if reason else b""
            case "message_stop":
                self._over = True
                return (self._usage_chunk() if self._shows_usage else b"") + DONE
            case "error":
                return self._error(_table(said, "error"))
        return b""

    def _start(self, message: dict[str, Any]) -> bytes:
        self._id, self.begun = str(message.get("id", "")), True
        self._count(message.get("usage"))
        return self._chunk({"role": "assistant", "content": ""})

    def _block(self, block: dict[str, Any]) -> bytes:
        if block.get("type") != "tool_use":
            return b""
        self._calls += 1
        function = {"name": block.get("name"), "arguments": ""}
        call = {"index": self._calls, "id": block.get("id"), "type": "function", "function": function}
        return self._chunk({"tool_calls": [call]})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                return self._chunk({"content": text})
            case {"type": "thinking_delta", "thinking": str(thought)}:
                return self._chunk({"reasoning_content": thought})
            case {"type": "input_json_delta", "partial_json": str(part)} if self._calls >= 0:
                return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": part}}]})
        return b""

    def _error(self, error: dict[str, Any]) -> bytes:
        self._over = True
        message = str(error.get("message") or "the provider ended the stream with an error")[:2000]
        if not self.begun:
            raise EngineFailed(message)
        return b"data: " + error_body(message, "server_error", None, EngineFailed.code) + b"\n\n" + DONE

    def _count(self, told: Any) -> None:
        """Input is told at the start, output at the end; a later word replaces only what it says."""
        usage = _usage(told)
        self.usage = Usage(
            usage.prompt_tokens or self.usage.prompt_tokens, usage.completion_tokens or self.usage.completion_tokens
        )

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return self._send({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]})

    def _usage_chunk(self) -> bytes:
        return self._send({"choices": [], "usage": _usage_object(self.usage)})

    def _send(self, rest: dict[str, Any]) -> bytes:
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        return b"data: " + msgspec.json.encode({**head, **rest}) + b"\n\n"


def _object(data: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EngineFailed("the provider's answer is not JSON") from error
    if not isinstance(said, dict):
        raise EngineFailed("the provider's answer is not an object")
    return said


def _table(said: dict[str, Any], key: str) -> dict[str, Any]:
    found = said.get(key)
    return found if isinstance(found, dict) else {}


def _reason(said: dict[str, Any]) -> str:
    return _REASONS.get(str(said.get("stop_reason")), "stop")


def _usage(told: Any) -> Usage:
    """Tokens read from the cache and written to it are tokens of the prompt."""
    counts = told if isinstance(told, dict) else {}
    parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return Usage(sum(_count(counts.get(part)) for part in parts), _count(counts.get("output_tokens")))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**40 else 0


def _usage_object(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }
