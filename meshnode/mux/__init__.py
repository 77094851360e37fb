"""Many streams, both directions, on one pipe: the only room that knows h2. Pure.

Not for sockets, records' encryption (noise) or tasks (net). Counterpart: the Mux at the other end.
"""

from meshnode.mux.events import (
    CANCEL,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    Beat,
    Data,
    Ended,
    Event,
    GoneAway,
    Head,
    Headers,
    Opened,
    Overflowed,
    Ponged,
    Reset,
    StreamKey,
    Trailers,
    Writable,
)
from meshnode.mux.mux import FLUSH_BYTES, Mux

__all__ = [
    "CANCEL",
    "FLUSH_BYTES",
    "INTERNAL_ERROR",
    "NO_ERROR",
    "REFUSED_STREAM",
    "Beat",
    "Data",
    "Ended",
    "Event",
    "GoneAway",
    "Head",
    "Headers",
    "Mux",
    "Opened",
    "Overflowed",
    "Ponged",
    "Reset",
    "StreamKey",
    "Trailers",
    "Writable",
]
