"""What this node says by itself inside a stream that it copies, in the dialect that the client speaks. Pure.

A dialect is one row here: how it keeps a silent stream alive (None: it has no way, and then nothing is said and no head
is sent for it) and how it tells that the stream broke. Counterpart: front.streaming, which knows when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from meshnode.dialects.sse import KEEPALIVE
from meshnode.dialects.status import event_error
from meshnode.errors import RequestError


@dataclass(frozen=True, slots=True)
class Speech:
    """`error` is the whole end of a stream that failed; `done` is how the last event of one that did not ends; `queued`
    is the keepalive that names a place in the queue, in dialects that have comments for people to read."""

    keepalive: bytes | None
    error: Callable[[RequestError], bytes]
    done: bytes = b"[DONE]"
    queued: Callable[[int], bytes] | None = None

    def sign(self, position: int) -> bytes | None:
        """A sign of life for a request at this place in a queue, 0 for one that waits in none; None for no way to
        give any."""
        return self.queued(position) if position and self.queued is not None else self.keepalive

    def ended(self, events: bytes) -> bool:
        """Whether the last of these events told the client that this was all."""
        return events.rstrip().endswith(self.done)


OPENAI: Final = Speech(KEEPALIVE, event_error, queued=lambda position: b": queued %d\n\n" % position)

_BY_ROUTE: Final[Mapping[str, Speech]] = {}
"""Routes of other dialects."""


def speech_of(route: str) -> Speech:
    """The dialect of a route; OpenAI's where no other is named."""
    return _BY_ROUTE.get(route, OPENAI)
