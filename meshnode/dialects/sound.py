"""Judges what an engine says as it passes: only whole events go on, each of them JSON in UTF-8; a body only whole.

Nothing is given out before a stream says something: an event that names only a role commits nobody. Works over any cut
of the bytes. Not for what sound words mean (engines' clients) nor for errors (status). Counterpart: sse.py.
"""

from __future__ import annotations

import codecs
import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from meshnode.dialects.sse import TAIL_BYTES, StreamEnd, judge_end, last_boundary, preliminary
from meshnode.errors import DecodeError

JUDGED_BYTES: Final = 4 << 20
"""Of a body that is held until it is known to be JSON, and of one event: an image in Base64 takes 2 MiB. What is larger
(thousands of embeddings) passes as it comes, and is UTF-8 that ends as it began; an event may not be."""

PRELUDE_BYTES: Final = 64 * 1024
"""Held of a stream that has said nothing: roles and comments of minutes."""


class _Object(msgspec.Struct):
    """Any object: its members are skipped, and their syntax is checked by that."""


_CLOSES: Final = {b"{": b"}", b"[": b"]", b'"': b'"'}

_AN_OBJECT: Final = msgspec.json.Decoder(_Object)
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)


class Judge(Protocol):
    """`feed` gives what may be passed on, `rest` what was held when the end has come; both raise DecodeError for what
    no client can read. `finished`: it ended as it should; `events`: how many it had."""

    @property
    def events(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    def feed(self, chunk: bytes) -> bytes: ...

    def rest(self) -> bytes: ...


def judge_of(status: int, headers: Mapping[str, str]) -> Judge:
    """The judge for an answer with this head."""
    if status != 200:
        return Unjudged()
    return SoundStream() if headers.get("content-type", "").startswith("text/event-stream") else SoundBody()


class Unjudged:
    """Of errors, and of what others judge."""

    events: int = 0
    finished: bool = True

    def feed(self, chunk: bytes) -> bytes:
        """All of it."""
        return chunk

    def rest(self) -> bytes:
        """Nothing is held."""
        return b""


class SoundBody:
    """A body that is no stream."""

    events: int = 0
    finished: bool = True

    def __init__(self) -> None:
        self._held: list[bytes] | None = []
        self._size = 0
        self._large = _Large()

    def feed(self, chunk: bytes) -> bytes:
        """Nothing, until there is more than is judged whole. Raises DecodeError."""
        if self._held is None:
            return self._large.passed(chunk)
        self._held.append(chunk)
        self._size += len(chunk)
        return self._large.passed(self._all()) if self._size > JUDGED_BYTES else b""

    def rest(self) -> bytes:
        """The body, or what is missing of one that has passed. Raises DecodeError."""
        if self._held is None:
            self._large.ended()
            return b""
        body = self._all()
        _check(body, _ANY)
        return body

    def _all(self) -> bytes:
        held, self._held = self._held or [], None
        return held[0] if len(held) == 1 else b"".join(held)


class _Large:
    """A body that is too large to be held: what can be known of it as it passes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._first = self._last = b""

    def passed(self, data: bytes) -> bytes:
        """The same. Raises DecodeError for what is no UTF-8, or begins as no large JSON does."""
        try:
            self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise DecodeError("what is no UTF-8") from error
        self._first = self._first or data.lstrip()[:1]
        if self._first not in _CLOSES:
            raise DecodeError("what is no JSON")
        self._last = data.rstrip()[-1:] or self._last
        return data

    def ended(self) -> None:
        """All has passed. Raises DecodeError where that cannot have been the end."""
        if self._decoder.getstate()[0] or self._last != _CLOSES[self._first]:
            raise DecodeError("what is no JSON: it ends too early")


class SoundStream:
    """A stream of events. `events` counts `data:` lines from the first that says something, `[DONE]` included."""

    __slots__ = ("_begun", "_held", "_prelude", "_tail", "_tail_bytes", "events")

    def __init__(self) -> None:
        self.events = 0
        self._held = bytearray()
        self._prelude = b""
        self._begun = False
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """What may be sent now. Raises DecodeError; of what came with it nothing may."""
        if self._held or not chunk.endswith(b"\n\n"):
            chunk = self._whole(chunk)
            if not chunk:
                return b""
        if not chunk.isascii():
            _utf8(chunk)
        plain = chunk if b"\r" not in chunk else chunk.replace(b"\r\n", b"\n")
        if not self._plain(plain):
            for event in plain.split(b"\n\n"):
                if event:
                    self._judge(event)
        self._keep(chunk)
        return chunk if self._begun else self._begin(chunk, plain.split(b"\n\n"))

    def rest(self) -> bytes:
        """What follows the last blank line, due when the stream ended by itself. Raises DecodeError."""
        rest = bytes(self._held)
        self._held.clear()
        if rest:
            _utf8(rest)
            self._judge(rest.replace(b"\r\n", b"\n").strip(b"\n"))
            self._keep(rest)
        prelude, self._prelude = self._prelude, b""
        return prelude + rest

    @property
    def finished(self) -> bool:
        """Whether it said that it was at its end, and did not fail."""
        return self.end().finished

    def end(self) -> StreamEnd:
        """The stream, seen from its end."""
        return judge_end(b"".join(self._tail)[-TAIL_BYTES:], self.events)

    def _whole(self, chunk: bytes) -> bytes:
        """What ends with an event's end, of what has come."""
        held = self._held
        seen = max(0, len(held) - 2)
        held += chunk
        end = last_boundary(held, seen)
        whole = bytes(held[:end])
        del held[:end]
        if len(held) > JUDGED_BYTES:
            raise DecodeError(f"an event of more than {JUDGED_BYTES} bytes")
        return whole

    def _plain(self, events: bytes) -> bool:
        """Whether these are lines of `data:` and objects, as nearly all that engines say: the quick way."""
        if not events.startswith(b"data:"):
            return False
        parts = events[5:-2].split(b"\n\ndata:")
        if events.count(b"\n") != 2 * len(parts):
            return False
        decode = _AN_OBJECT.decode
        try:
            for part in parts:
                decode(part)
        except (msgspec.DecodeError, RecursionError):
            return False
        self.events += len(parts)
        return True

    def _judge(self, event: bytes) -> None:
        data = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        self.events += len(data)
        said = b"\n".join(data)
        if said not in (b"", b"[DONE]"):
            _check(said, _AN_OBJECT)

    def _begin(self, chunk: bytes, events: Iterable[bytes]) -> bytes:
        chunk, self._prelude = self._prelude + chunk, b""
        self._begun = len(chunk) > PRELUDE_BYTES
        for event in events:
            if not preliminary(event):
                self._begun = True
                break
            # A role is no token: whoever counts these means what was said.
            self.events -= event.startswith(b"data:")
        if self._begun:
            return chunk
        self._prelude = chunk
        return b""

    def _keep(self, chunk: bytes) -> None:
        """By bytes, so that no cut decides what the end is judged by."""
        if len(chunk) > TAIL_BYTES:
            chunk = chunk[-TAIL_BYTES:]
        tail = self._tail
        tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(tail.popleft())


def _utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("what is no UTF-8") from error


def _check(data: bytes, decoder: msgspec.json.Decoder[Any]) -> None:
    _utf8(data)
    try:
        decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        _check_exactly(data, decoder is _AN_OBJECT)


def _check_exactly(data: bytes, an_object: bool) -> None:
    """By the other decoder, which takes halves of surrogate pairs, as RFC 8259 does: engines in JavaScript that cut an
    emoji write such, and clients read them."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError("what is no JSON") from error
    if an_object and not isinstance(value, dict):
        raise DecodeError("an event that is no object")


def _no_constant(name: str) -> None:
    raise ValueError(name)
