"""What a client was told in answer to one request, read strictly: every byte must be UTF-8, every event JSON. Pure.

Knows OpenAI's chat dialect, streamed and whole. Not for sockets (client.py) nor for what it means (judge.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

SHOWN = 60
"""Bytes of a fault that are told."""


@dataclass(slots=True)
class Answer:
    """`ends` counts the ends that it was given: a whole body, [DONE], an error. `wrong` are faults of form."""

    status: int = 0
    streamed: bool = False
    text: str = ""
    finish: str = ""
    error: str = ""
    ends: int = 0
    wrong: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._rest += data
        if not self.streamed:
            return
        *events, self._rest = self._rest.split(b"\n\n")
        for event in events:
            self._event(event)

    def close(self) -> None:
        """HTTP says that this was all."""
        if self.streamed:
            if self._rest.strip():
                self._event(self._rest)
            return
        document = self._json(self._rest)
        if document is None:
            return
        self.ends += 1
        if self.status >= 400:
            self._error(document)
            return
        try:
            self.text = document["choices"][0]["message"]["content"]
            self.finish = document["choices"][0]["finish_reason"] or ""
        except (KeyError, IndexError, TypeError):
            self.wrong.append(f"no chat completion: {self._rest[:SHOWN]!r}")

    @property
    def whole(self) -> bool:
        """An answer, and all of it."""
        return self.ends == 1 and not self.error and bool(self.finish)

    def _event(self, event: bytes) -> None:
        lines = [line for line in event.split(b"\n") if line and not line.startswith(b":")]
        if not lines:
            return
        if self.ends:
            self.wrong.append(f"after its end: {event[:SHOWN]!r}")
        data = b"\n".join(line.removeprefix(b"data:").removeprefix(b" ") for line in lines)
        if data == b"[DONE]":
            self.ends += 1
        elif (document := self._json(data)) is not None:
            self._chunk(document, data)

    def _chunk(self, document: dict[str, Any], data: bytes) -> None:
        if "error" in document:
            self._error(document)
            return
        if self.error:
            self.wrong.append(f"after an error: {data[:SHOWN]!r}")
        for choice in document.get("choices", []):
            self.text += choice.get("delta", {}).get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish

    def _error(self, document: dict[str, Any]) -> None:
        said = document.get("error")
        if not isinstance(said, dict) or not {"message", "type", "code"} <= said.keys() or self.error:
            self.wrong.append(f"no error of the dialect, or a second one: {str(document)[:SHOWN]}")
        self.error = str(said.get("code") if isinstance(said, dict) else said) or "unnamed"

    def _json(self, data: bytes) -> dict[str, Any] | None:
        try:
            document = json.loads(data.decode())
        except ValueError:
            self.wrong.append(f"neither JSON nor an end: {data[:SHOWN]!r}")
            return None
        if isinstance(document, dict):
            return document
        self.wrong.append(f"no object: {data[:SHOWN]!r}")
        return None
