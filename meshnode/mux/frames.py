"""Judges HTTP/2 frames by their 9-byte headers before h2 buffers or parses anything (RFC 9113 §4.1).

h2 4.4 waits for a whole 16 MB frame before it finds it too large, takes PRIORITY frames for ever, and treats GOAWAY as
the end of everything. Here: too large and unwanted kinds are violations, floods cost a budget, GOAWAY is taken out.
Not for streams and windows (h2). Counterpart: `connection.py`.
"""

from __future__ import annotations

from meshnode.errors import ProtocolViolation

HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""SETTINGS_MAX_FRAME_SIZE as every end of a link leaves it: its default."""

MAX_BLOCK_BYTES = 65_536
"""A header block in HEADERS and CONTINUATION together. Ours are a hundredth of it; h2 would take 64 frames, 1 MiB."""

PREFACE_BYTES = 24
"""What a client says before its first frame (RFC 9113 §3.4); h2 compares it."""

_END_STREAM, _END_HEADERS, _HAS_PRIORITY = 0x1, 0x4, 0x20


class _Kind:
    """Frame types of RFC 9113 §6."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    PUSH_PROMISE = 0x5
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Budget:
    """A token bucket: what a peer may do, once in a burst and then steadily. Time is handed in."""

    __slots__ = ("_at", "_burst", "_left", "_per_s", "_what")

    def __init__(self, what: str, burst: float, per_min: float) -> None:
        self._what = what
        self._burst = self._left = burst
        self._per_s = per_min / 60.0
        self._at = 0.0

    def spend(self, count: int, now: float) -> None:
        """Raises ProtocolViolation when the bucket is empty."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s) - count
        self._at = now
        if self._left < 0:
            raise ProtocolViolation(f"too many {self._what}")

    def earn(self, amount: float) -> None:
        """Good behaviour fills the bucket too."""
        self._left = min(self._burst, self._left + amount)


class FrameCutter:
    """Takes any cut of one connection's bytes, gives whole judged frames.

    After each `receive`: `gone_away` says whether a GOAWAY has ever come; `others` whether that call had frames beside
    plain DATA, which are cheap to send and cost the receiver work: `heads`, `empties`, `resets` and `windows` count
    HEADERS, DATA of no bytes, RST_STREAM and WINDOW_UPDATE, `control` all the rest.
    """

    __slots__ = (
        "_block", "_preface", "_rest", "control", "empties", "gone_away", "heads", "others", "resets", "windows",
    )  # fmt: skip

    def __init__(self, *, preface: bool) -> None:
        self._preface = PREFACE_BYTES if preface else 0
        self._rest = b""
        self._block = 0
        self.gone_away = self.others = False
        self.heads = self.empties = self.resets = self.windows = self.control = 0

    def receive(self, data: bytes) -> bytes:
        """The whole frames that `data` completes, joined. Raises ProtocolViolation."""
        if self._rest:
            data = self._rest + data
        if self.others:
            self.others = False
            self.heads = self.empties = self.resets = self.windows = self.control = 0
        size, at, start = len(data), self._preface, 0
        kept = b""
        if size < at:
            self._rest = data
            return b""
        self._preface = 0
        while size - at >= HEADER_BYTES:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > MAX_FRAME_BYTES:
                raise ProtocolViolation(f"a frame of {length} bytes")
            stop = at + HEADER_BYTES + length
            if stop > size:
                break
            kind = data[at + 3]
            if (kind or not length) and self._judge(kind, data[at + 4], length):
                kept += data[start:at]
                start = stop
            at = stop
        self._rest = data[at:]
        return kept + data[start:at] if kept or start else data[:at]

    def _judge(self, kind: int, flags: int, length: int) -> bool:
        """Count or refuse what is not plain DATA. True: h2 shall not see it."""
        self.others = True
        match kind:
            case _Kind.HEADERS:
                if flags & _HAS_PRIORITY:
                    raise ProtocolViolation("a priority in HEADERS")
                self.heads += 1
                self._block = 0 if flags & _END_HEADERS else length
            case _Kind.PRIORITY | _Kind.PUSH_PROMISE:
                raise ProtocolViolation(f"a frame of kind {kind}, which links do not use")
            case _Kind.RST_STREAM:
                self.resets += 1
            case _Kind.GOAWAY:
                self.control += 1
                self.gone_away = True
                return True
            case _Kind.WINDOW_UPDATE:
                self.windows += 1
            case _Kind.CONTINUATION:
                self.control += 1
                self._block += length
                if self._block > MAX_BLOCK_BYTES:
                    raise ProtocolViolation(f"a header block of more than {MAX_BLOCK_BYTES} bytes")
            case _Kind.DATA:
                self.empties += not flags & _END_STREAM
            case _:
                # SETTINGS, PING and unknown kinds.
                self.control += 1
        return False
