"""What a Mux tells its shell, and the words both use: stream keys, headers, reset codes.

Not for how they come about (mux.py). Counterpart: `net.link`, which matches on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

StreamKey = NewType("StreamKey", int)
"""Names a stream at both ends alike: HTTP/2 stream id times two, plus 1 where the listener opened it."""

Headers = Sequence[tuple[str, str]]
"""Names in lower case, pseudo-headers (`:method`, `:path`, `:status`) first."""

# RFC 9113 §7, those in use here.
NO_ERROR = 0x0
INTERNAL_ERROR = 0x2
REFUSED_STREAM = 0x7
CANCEL = 0x8


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream: its request's head. `ended`: no body follows (an Ended follows all the same)."""

    key: StreamKey
    headers: Headers
    ended: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the answer to a stream this side opened."""

    key: StreamKey
    headers: Headers
    ended: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """The peer still works at what this side asked for: it has nothing else to say of this stream now. `place`: where
    that waits in a queue, 1 for the next; 0 where it does not, or nobody says. `mute`: the engine says nothing for
    longer than that can take."""

    key: StreamKey
    place: int = 0
    mute: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream. `flow` is what they cost of its window: give it back with `Mux.credit` once they are read."""

    key: StreamKey
    data: bytes
    flow: int


@dataclass(frozen=True, slots=True)
class Trailers:
    """Headers after the last byte; Ended follows."""

    key: StreamKey
    headers: Headers


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer will send nothing more on this stream."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is over, both directions. `code` is an HTTP/2 error code."""

    key: StreamKey
    code: int


@dataclass(frozen=True, slots=True)
class Overflowed:
    """Too many bytes of this link were unread, and this stream's for the longest time: it is over, they are lost."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class Writable:
    """The peer gave credit: `window` has grown for this stream, or for any stream when `key` is None."""

    key: StreamKey | None


@dataclass(frozen=True, slots=True)
class Ponged:
    """A ping of this side came back after `rtt_s` seconds."""

    rtt_s: float


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer takes no new streams; those that run may finish."""


Event = Opened | Head | Beat | Data | Trailers | Ended | Reset | Overflowed | Writable | Ponged | GoneAway
