"""Answers of commercial APIs, each of which says at its end what it used, so that it can be paid for.

Not for asking (cloud.py) nor for prices (routing.fallback). Counterpart: dialects, which know where usage stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from meshnode.dialects.anthropic_answer import Translation
from meshnode.dialects.sound import SoundStream, judge_of
from meshnode.dialects.sse import Usage
from meshnode.errors import DecodeError, EngineFailed
from meshnode.model.answer import Answer, WholeAnswer

WHOLE_BYTES = 64 * 1024 * 1024
"""Largest answer read whole, to be translated or to find what it used."""


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_EVENT = msgspec.json.Decoder(_Event)


class PricedAnswer(Answer, Protocol):
    """An answer that says, once it has ended, what it used; None where the provider did not."""

    @property
    def usage(self) -> Usage | None: ...


class KnownAnswer(WholeAnswer):
    """A whole answer that was translated."""

    def __init__(self, body: bytes, usage: Usage) -> None:
        super().__init__(200, {"content-type": "application/json"}, body)
        self.usage: Usage | None = usage


class CountedAnswer:
    """OpenAI's dialect as it came. `hides_usage`: the client did not ask for the event that tells it, we did."""

    def __init__(self, inner: Answer, *, hides_usage: bool) -> None:
        self.status = inner.status
        self.headers = inner.headers
        self.trailers: Mapping[str, str] = {}
        self.usage: Usage | None = None
        self._inner = inner
        self._judge = judge_of(inner.status, inner.headers)
        self._hides_usage = hides_usage
        self._body: list[bytes] = []
        self._size = 0
        self._over = False

    def __aiter__(self) -> CountedAnswer:
        return self

    async def __anext__(self) -> bytes:
        while not self._over:
            try:
                data = self._take(self._judge.feed(await self._inner.__anext__()))
            except StopAsyncIteration:
                data = self._end()
            except DecodeError as error:
                raise EngineFailed(f"the provider said {error}") from error
            if data:
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._over = True
        await self._inner.aclose()

    def _take(self, data: bytes) -> bytes:
        """What the client gets of `data`, which is whole events where it is a stream."""
        if isinstance(self._judge, SoundStream):
            return without_usage(data) if self._hides_usage else data
        self._size += len(data)
        if self._size <= WHOLE_BYTES:
            self._body.append(data)
        else:
            self._body.clear()
        return data

    def _end(self) -> bytes:
        self._over = True
        try:
            data = self._take(self._judge.rest())
        except DecodeError as error:
            raise EngineFailed(f"the provider said {error}") from error
        if not isinstance(self._judge, SoundStream):
            self.usage = _whole_usage(b"".join(self._body))
            return data
        end = self._judge.end()
        self.usage = end.usage
        if not end.finished and not end.failed:
            raise EngineFailed("the provider ended the stream before it said it was done")
        return data


class TranslatedAnswer:
    """A stream of another dialect as OpenAI's."""

    def __init__(self, inner: Answer, translation: Translation) -> None:
        self.status = inner.status
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream"}
        self.trailers: Mapping[str, str] = {}
        self._inner = inner
        self._translation = translation

    @property
    def usage(self) -> Usage | None:
        return self._translation.usage if self._translation.begun else None

    def __aiter__(self) -> TranslatedAnswer:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                data = await self._inner.__anext__()
            except StopAsyncIteration:
                self._translation.end()
                raise
            if said := self._translation.receive(data):
                return said

    async def aclose(self) -> None:
        await self._inner.aclose()


def without_usage(events: bytes) -> bytes:
    """Whole events without the one that tells usage and has no choices, however it is spaced: what a client that did
    not ask for it is not shown, since it would look for a first choice."""
    if b'"usage"' not in events:
        return events
    separator = b"\r\n\r\n" if b"\r\n\r\n" in events else b"\n\n"
    return separator.join(event for event in events.split(separator) if not _tells_usage(event))


def _tells_usage(event: bytes) -> bool:
    if b'"usage"' not in event:
        return False
    data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    try:
        told = _EVENT.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return told.choices == [] and bytes(told.usage) != b"null"


async def read_all(answer: Answer) -> bytes:
    """The whole body. Raises EngineFailed when it is larger than WHOLE_BYTES."""
    parts: list[bytes] = []
    size = 0
    try:
        async for data in answer:
            size += len(data)
            if size > WHOLE_BYTES:
                raise EngineFailed("the provider's answer is too large")
            parts.append(data)
    finally:
        await answer.aclose()
    return b"".join(parts)


class _Told(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0


class _Whole(msgspec.Struct):
    usage: _Told | None = None


def _whole_usage(body: bytes) -> Usage | None:
    try:
        told = msgspec.json.decode(body, type=_Whole).usage
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return Usage(told.prompt_tokens, told.completion_tokens) if told is not None else None
