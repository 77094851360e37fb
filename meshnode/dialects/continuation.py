"""What was delivered of a streamed completion, and the request for the rest: the prompt with the text so far. Pure.

Only plain completions, and only with fields of which it is known that the rest does not depend on how the text came
about: a chat's template would end the half answer and begin a new one unless its engine can be told not to, and adverts
do not say which can. Not for where the rest is asked for (dispatch.continuing).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.dialects.facts import COMPLETION
from meshnode.dialects.sse import WholeEvents

TEXT_CHARACTERS = 1 << 20
"""Longer answers are not remembered, and so not continued."""


class _Plain(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The whole of a request that can be continued; with any other field it cannot."""

    model: str
    prompt: str
    stream: bool = False
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    user: str | None = None
    stream_options: msgspec.Raw = msgspec.Raw(b"{}")


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: Annotated[list[_Choice], Meta(max_length=1)] = []
    error: msgspec.Raw = msgspec.Raw(b"")


_PLAIN = msgspec.json.Decoder(_Plain)
_EVENT = msgspec.json.Decoder(_Event)


class Continuation:
    """One streamed completion as it passes. `pieces` counts events with text, one a token at the engines known."""

    def __init__(self, asked: _Plain) -> None:
        self._asked = asked
        self._events = WholeEvents()
        self._texts: list[str] = []
        self._characters = 0
        self._lost = False
        self.pieces = 0

    def feed(self, data: bytes) -> bytes:
        """What may be delivered: whole events, which are remembered."""
        ready = self._events.feed(data)
        if ready and not self._lost:
            self._remember(ready)
        return ready

    def rest(self) -> bytes:
        """What came after the last whole event, where the answer ended by itself."""
        return self._events.rest()

    def body(self) -> bytes | None:
        """The request for the rest; None where there is none to ask for, or it cannot be told what was delivered. What
        came of an event that is not whole is forgotten: it comes again."""
        left = self._asked.max_tokens - self.pieces if self._asked.max_tokens is not None else None
        if self._lost or not self._events.at_boundary or (left is not None and left < 1):
            return None
        self._events = WholeEvents()
        prompt = self._asked.prompt + "".join(self._texts)
        return msgspec.json.encode(msgspec.structs.replace(self._asked, prompt=prompt, max_tokens=left))

    def again(self) -> None:
        """The rest is coming, of a request that asked for what `body` said then."""
        self._asked = msgspec.structs.replace(
            self._asked,
            prompt=self._asked.prompt + "".join(self._texts),
            max_tokens=self._asked.max_tokens - self.pieces if self._asked.max_tokens is not None else None,
        )
        self._texts, self.pieces = [], 0

    def _remember(self, events: bytes) -> None:
        for line in events.splitlines():
            payload = line[5:].strip()
            if not line.startswith(b"data:"):
                continue
            try:
                event = _EVENT.decode(payload)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                # `[DONE]`, or what nobody can go on from.
                self._lost = True
                return
            for choice in event.choices:
                self._lost = self._lost or choice.finish_reason is not None
                self._texts.append(choice.text)
                self.pieces += bool(choice.text)
                self._characters += len(choice.text)
            self._lost = self._lost or bytes(event.error) not in (b"", b"null") or self._characters > TEXT_CHARACTERS


def continuable(route: str, body: bytes) -> Continuation | None:
    """None where the rest of this request's answer could not be asked for elsewhere."""
    if route != COMPLETION:
        return None
    try:
        asked = _PLAIN.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return Continuation(asked) if asked.stream else None
