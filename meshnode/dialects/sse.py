"""Server-sent events on their way through: cut at whole events, and judged by how they begin and end.

Works over any cut of the bytes. Not for whether each can be read (sound.py), nor for making events (status, engines),
nor for waiting (front). WHATWG HTML §9.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

KEEPALIVE: Final = b": keepalive\n\n"
"""A comment: clients ignore it, idle timers on the way do not."""

TAIL_BYTES: Final = 16_384
"""Kept of a stream's end: the last delta, the usage event and `[DONE]` take about 1 KiB; vLLM's with logprobs 8."""

HELD_BYTES: Final = 256 * 1024
"""An event that does not end within this is passed on in pieces: no engine writes such, memory is bounded, and so is
the copying of a stream that comes in single bytes."""

_LAST_EVENTS: Final = 8


class WholeEvents:
    """Passes bytes on only up to the last finished event, so that between two sends a comment or an error may stand.

    The bytes that come out, with `rest` at the end, are those that went in.
    """

    __slots__ = ("_held", "at_boundary")

    def __init__(self) -> None:
        self._held = b""
        self.at_boundary = True

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent now; empty while an event is unfinished."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(b"\n\n"):
            self.at_boundary = True
            return chunk
        end = last_boundary(chunk)
        if len(chunk) - end > HELD_BYTES:
            self.at_boundary = False
            return chunk
        self._held = chunk[end:]
        self.at_boundary = self.at_boundary or end > 0
        return chunk[:end]

    def rest(self) -> bytes:
        """What was held back: bytes after the last finished event, due only when the stream ended by itself."""
        held, self._held = self._held, b""
        return held


def last_boundary(chunk: bytes | bytearray, start: int = 0) -> int:
    """Just behind the last blank line from `start` on, whose ends may be LF or CRLF; 0 where there is none."""
    plain = chunk.rfind(b"\n\n", start)
    carriage = chunk.rfind(b"\n\r\n", start)
    return max(plain + 2 if plain >= 0 else 0, carriage + 3 if carriage >= 0 else 0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What a stream was, seen from its end.

    `finished` means that it said so, by `[DONE]` or a `finish_reason`; one that did not was cut. `failed` means that
    it ended with an error event. `events` counts `data:` lines, `[DONE]` included.
    """

    finished: bool
    failed: bool
    events: int
    usage: Usage | None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Opening(msgspec.Struct):
    choices: list[dict[str, Any]] | None = None
    usage: Any = None
    error: Any = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


_EVENT = msgspec.json.Decoder(_Event)
_OPENING = msgspec.json.Decoder(_Opening)


def judge_end(tail: bytes, events: int) -> StreamEnd:
    """A stream of `events`, judged by its last ones, in `tail`."""
    lines = tail.splitlines()
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")][-_LAST_EVENTS:]
    last = [event for event in map(_read, data) if event is not None]
    reasons = any(choice.finish_reason for event in last for choice in event.choices or ())
    tokens = next((event.usage for event in reversed(last) if event.usage is not None), None)
    failed = any(bytes(event.error) not in (b"", b"null") for event in last)
    return StreamEnd(
        finished=(b"[DONE]" in data or reasons) and not failed,
        failed=failed,
        events=events,
        usage=Usage(tokens.prompt_tokens, tokens.completion_tokens) if tokens is not None else None,
    )


def preliminary(event: bytes) -> bool:
    """Whether an event says nothing yet: a comment, the role of who will speak, or what some put before that."""
    data = _data(event)
    try:
        said = _OPENING.decode(data) if data else _Opening(choices=[])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    silent = said.choices is not None and not any(map(_speaks, said.choices))
    return silent and not said.usage and not said.error


def _speaks(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return bool(delta or choice.get("text") or choice.get("finish_reason"))
    return bool(choice.get("finish_reason")) or any(value for key, value in delta.items() if key != "role")


def _data(event: bytes) -> bytes:
    return b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))


def _read(data: bytes) -> _Event | None:
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def opening(chunk: bytes) -> bytes:
    """The first event that says something; empty where none does. All of what is no stream but an object."""
    if chunk.lstrip().startswith(b"{"):
        return chunk
    events = chunk.replace(b"\r\n", b"\n").split(b"\n\n")
    return next((event for event in events if not preliminary(event)), b"")


def first_event_is_error(chunk: bytes) -> bool:
    """Whether a stream begins with an error, or a whole body is one, so that the status can still be an error's. What
    says nothing is skipped."""
    event = opening(chunk) if b"error" in chunk else b""
    named = any(line[6:].strip() == b"error" for line in event.splitlines() if line.startswith(b"event:"))
    return named or _is_error(_data(event) or event)


def _is_error(data: bytes) -> bool:
    event = _read(data.strip()) if b'"error"' in data else None
    return event is not None and not event.choices and bytes(event.error) not in (b"", b"null")
