"""Server-sent events on their way through: cut at whole events, counted, and judged at the end; never parsed per chunk.

Works over any cut of the bytes. Not for making events (status, engines) nor for waiting (front). WHATWG HTML §9.2.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

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
        end = _last_boundary(chunk)
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


def _last_boundary(chunk: bytes) -> int:
    """Just behind the last blank line, whose ends may be LF or CRLF; 0 where there is none."""
    plain = chunk.rfind(b"\n\n")
    carriage = chunk.rfind(b"\n\r\n")
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
    chunks: int
    events: int
    usage: Usage | None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


_EVENT = msgspec.json.Decoder(_Event)


class StreamObserver:
    """Sees each chunk of a copied stream and keeps only its end. One line per chunk on the hot path."""

    __slots__ = ("_kept", "_kept_bytes", "_last", "chunks", "events")

    def __init__(self) -> None:
        self.chunks = 0
        self.events = 0
        self._last = b"\n"
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Count a chunk. JSON has no raw line ends, so a line that begins `data:` is always an event's."""
        self.chunks += 1
        self.events += chunk.count(b"\ndata:") + (self._last + chunk[:5]).count(b"\ndata:")
        self._last = chunk[-5:] if len(chunk) >= 5 else (self._last + chunk)[-5:]
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        while self._kept_bytes - len(self._kept[0]) >= TAIL_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def end(self) -> StreamEnd:
        """Judge the stream by its last events."""
        lines = b"".join(self._kept)[-TAIL_BYTES:].splitlines()
        data = [line[5:].strip() for line in lines if line.startswith(b"data:")][-_LAST_EVENTS:]
        done = b"[DONE]" in data
        events = [event for event in map(_read, data) if event is not None]
        reasons = any(choice.finish_reason for event in events for choice in event.choices or ())
        tokens = next((event.usage for event in reversed(events) if event.usage is not None), None)
        failed = any(bytes(event.error) not in (b"", b"null") for event in events)
        return StreamEnd(
            finished=(done or reasons) and not failed,
            failed=failed,
            chunks=self.chunks,
            events=self.events,
            usage=Usage(tokens.prompt_tokens, tokens.completion_tokens) if tokens is not None else None,
        )


def _read(data: bytes) -> _Event | None:
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def first_event_is_error(chunk: bytes) -> bool:
    """Whether a stream begins with an error, so that its status can still be an error's. Comments are skipped."""
    for line in chunk[:TAIL_BYTES].splitlines():
        if line.startswith(b"data:"):
            return _is_error(line[5:])
        if line.startswith(b"event:") and line[6:].strip() == b"error":
            return True
    return False


def _is_error(data: bytes) -> bool:
    event = _read(data.strip()) if b'"error"' in data else None
    return event is not None and not event.choices and bytes(event.error) not in (b"", b"null")
