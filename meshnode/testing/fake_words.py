"""What a fake engine writes: bodies and events in OpenAI's shapes as llama-server spells them, and spoilt ones.

Not for when anything is sent (fake_engine.py).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

import msgspec

DIMENSIONS = 8


class Writer:
    """One answer of `count` tokens, whole or as events."""

    def __init__(self, path: str, asked: dict[str, Any], model: str, count: int, word: str) -> None:
        self.chat = path == "/v1/chat/completions"
        self.count = count
        self._word = word
        self._finish = "length" if asked.get("max_tokens") == count else "stop"
        self._usage = {"completion_tokens": count, "prompt_tokens": prompt_tokens(asked)}
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


def spoilt(data: bytes, end: str) -> bytes:
    """An event or a body that is no JSON, or no UTF-8, in framing that is right; for any other end as it was."""
    half = len(data) // 2
    if end == "json":
        return data[:half] + data[len(data.rstrip(b"\n")) :]
    return data[:half] + b"\xff" + data[half:] if end == "utf8" else data


def last_word(asked: dict[str, Any]) -> str:
    """Of the last message, or of the prompt; nothing where it is not text."""
    messages = asked.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {"content": asked.get("prompt")}
    said = last.get("content") if isinstance(last, dict) else None
    return (said.split() or [""])[-1] if isinstance(said, str) else ""


def prompt_tokens(asked: dict[str, Any]) -> int:
    """A token for each word: enough for a fake."""
    said = asked.get("messages") or asked.get("prompt") or asked.get("input") or ""
    return max(1, len(msgspec.json.encode(said).split()))


def embeddings(asked: dict[str, Any], model: str) -> dict[str, Any]:
    said = asked.get("input")
    inputs = said if isinstance(said, list) and said and not isinstance(said[0], int) else [said]
    as_base64 = asked.get("encoding_format") == "base64"
    data = []
    for index, item in enumerate(inputs):
        digest = hashlib.sha256(msgspec.json.encode(item)).digest()
        floats = [byte / 255 for byte in digest[:DIMENSIONS]]
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *floats)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else floats})
    usage = {"prompt_tokens": prompt_tokens(asked), "total_tokens": prompt_tokens(asked)}
    return {"object": "list", "model": model, "data": data, "usage": usage}
