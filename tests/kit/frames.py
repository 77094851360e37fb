"""HTTP/2 frames by hand (RFC 9113 §4.1 and §6), for those who mean no good: no rule is kept here.

Counterpart: meshnode.mux, which has to stand them.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.mux.encoder import BlockEncoder

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

HEAD, MAX_FRAME, DEFAULT_WINDOW = 9, 16_384, 65_535
"""Bytes: of a frame's head; in a frame and in flight where nothing else was said."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What the side says first whose requests a connection carries (§3.4)."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame, of whatever kind and size."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(**values: int) -> bytes:
    """SETTINGS by the names of this module, in lower case."""
    pairs = ((globals()[name.upper()], value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in pairs))


def request(stream: int, headers: Iterable[tuple[str, str]], *, end: bool = False) -> bytes:
    """HEADERS in one frame; without a dynamic table, so that none depends on those before."""
    block = BlockEncoder().encode([(name.encode(), value.encode()) for name, value in headers])
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def window(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int = 8) -> bytes:
    """RST_STREAM, CANCEL."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))
