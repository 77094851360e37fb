"""HTTP/2 on links: a hostile peer gets a violation and a bounded answer, an honest pair never hears of one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from meshnode.config.mesh import MeshSection
from meshnode.errors import BadRequest, LinkClosed, ProtocolViolation, StreamReset
from meshnode.mux import CANCEL, Data, Ended, Event, Head, Mux, Opened, Reset, StreamKey, Trailers
from meshnode.mux.encoder import BlockEncoder
from meshnode.mux.frames import FrameCutter
from tests.fuzz.kit import Draw, cut, in_words, mutate, refused
from tests.kit.frames import PREFACE, frame
from tests.mux.pair import OK, REQUEST, Pair

SECTION = MeshSection(
    streams=4, stream_window_bytes=65_536, link_window_bytes=131_072, resets_per_min=60, control_frames_per_min=60
)
PATIENT = MeshSection(streams=64)
"""For honest ends, which cancel as often as they like here."""

STEPS = 48
ANSWER_BYTES = 64
"""For each byte that comes, at most: an acknowledged PING is 17 for 17, a refused stream 13 for a dozen."""

OWN_BYTES = 200_000
"""What the application here may say of its own in one run."""


def one_input(data: bytes) -> None:
    draw = Draw(data)
    match draw.number(4):
        case 0:
            _cut_alike(draw)
        case 1:
            _honest(draw)
        case _:
            _hostile(draw)


def _cut_alike(draw: Draw) -> None:
    """Frames judged whole or byte by byte are the same frames."""
    pattern, preface = draw.take(3), draw.flag()
    wire = b"".join(_frame(draw) for _ in range(draw.number(8))) + draw.rest()
    assert _judged(wire, pattern, preface) == _judged(wire, b"", preface), "the cut decides"


def _judged(wire: bytes, pattern: bytes, preface: bool) -> tuple[bytes, int, int, bool] | None:
    cutter = FrameCutter(preface=preface)
    frames, resets, control = b"", 0, 0
    try:
        for piece in cut(wire, pattern):
            frames += cutter.receive(piece)
            resets += cutter.resets
            control += cutter.control
    except ProtocolViolation:
        return None
    return frames, resets, control, cutter.gone_away


def _hostile(draw: Draw) -> None:
    victim = _Victim(Mux(initiator=draw.flag(), section=SECTION))
    wire = _Wire()
    for _ in range(STEPS):
        if not draw.left:
            break
        match draw.number(8):
            case 0:
                victim.act(draw)
            case 1:
                victim.now += draw.number(256) / 4
            case _:
                if not victim.hears(wire.record(draw)):
                    return


class _Wire:
    """What a member says that knows HTTP/2 well, and means no good. Both halves' prefaces go first."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._encoder = BlockEncoder()
        self._streams = 0

    def record(self, draw: Draw) -> bytes:
        half = draw.number(2)
        frames = b"".join(self._one(draw) for _ in range(1 + draw.number(4)))
        if draw.number(8) == 1:
            frames = mutate(frames, Draw(draw.some(8)))
        if half not in self._begun:
            self._begun.add(half)
            # Whether a preface comes first, and which half wants one, is the input's to find out.
            frames = (PREFACE if draw.flag() else b"") + frame(4, 0, 0, b"") + frames
        return bytes([half]) + frames

    def _one(self, draw: Draw) -> bytes:
        if draw.number(3):
            return _frame(draw)
        self._streams += 1
        number = 2 * self._streams - 1
        ending = draw.number(2)
        head = frame(1, 4 | ending, number, self._encoder.encode([(n.encode(), v.encode()) for n, v in REQUEST]))
        body = b"" if ending else frame(0, draw.number(2), number, bytes(draw.number(300)))
        return head + body


def _frame(draw: Draw) -> bytes:
    kind, flags, stream = draw.number(11), draw.number(256), draw.number(12)
    match draw.number(4):
        case 0:
            payload = draw.some(60)
        case 1:
            payload = bytes(draw.number(2**14 + 1))
        case 2:
            payload = draw.take((4, 8, 6, 5)[draw.number(4)])
        case _:
            payload = b""
    return frame(kind, flags, stream, payload)


@dataclass
class _Victim:
    """One end, and an application that answers at random."""

    mux: Mux
    now: float = 0.0
    heard: int = 0
    said: int = 0
    own: int = 0
    streams: list[StreamKey] = field(default_factory=list)
    headed: set[StreamKey] = field(default_factory=set)
    unread: dict[StreamKey, int] = field(default_factory=dict)

    def hears(self, record: bytes) -> bool:
        """Whether the link lives on."""
        self.heard += len(record)
        try:
            events = self.mux.receive(record, self.now)
        except ProtocolViolation as error:
            in_words(error)
            assert refused(lambda: self.mux.receive(record, self.now), ProtocolViolation)
            assert refused(lambda: self.mux.records_to_send(), ProtocolViolation)
            return False
        for event in events:
            self.take(event)
        assert self.mux.streams <= 4 * SECTION.streams
        assert sum(self.unread.values()) <= self.heard, "more bytes than came"
        self.flush()
        return True

    def take(self, event: Event) -> None:
        match event:
            case Opened(key, headers, _):
                assert dict(headers)[":path"]
                assert key not in self.unread, "opened twice"
                self.streams.append(key)
                self.unread[key] = 0
            case Data(key, data, flow):
                assert len(data) <= flow
                self.unread[key] += flow
                assert self.unread[key] <= SECTION.stream_window_bytes, "beyond the window"
            case Reset(key, _):
                self.streams.remove(key)

    def act(self, draw: Draw) -> None:
        with suppress(StreamReset, LinkClosed, BadRequest):
            self.one_act(draw)
        self.flush()

    def one_act(self, draw: Draw) -> None:
        action = draw.number(8)
        if action == 0:
            key = self.mux.open(REQUEST, end=draw.flag())
            self.streams.append(key)
            self.headed.add(key)
            self.unread[key] = 0
        elif action == 1:
            self.mux.ping(self.now)
        elif self.streams:
            self.on_stream(self.streams[draw.number(256) % len(self.streams)], action, draw)

    def on_stream(self, key: StreamKey, action: int, draw: Draw) -> None:
        if action == 2:
            self.mux.reset(key, CANCEL)
            self.streams.remove(key)
        elif action == 3:
            self.mux.credit(key, self.unread[key])
            self.unread[key] = 0
        elif key not in self.headed:
            self.mux.send_head(key, OK)
            self.headed.add(key)
        elif action == 4:
            self.mux.finish(key, [("meshnode-done", "1")] * draw.number(2))
        else:
            size = min(draw.number(2**12), max(0, self.mux.window(key)), OWN_BYTES - self.own)
            self.own += size
            self.mux.send(key, bytes(size))

    def flush(self) -> None:
        self.said += sum(map(len, self.mux.records_to_send()))
        assert self.said <= 2000 + ANSWER_BYTES * self.heard + 2 * self.own + 200 * STEPS, "an answer without bound"


def _honest(draw: Draw) -> None:
    """Two of ours: what one sends is what the other sees, in any order of acts and any cut."""
    pair = Pair(PATIENT)
    sent: dict[StreamKey, bytearray] = {}
    got: dict[StreamKey, bytearray] = {}
    for _ in range(STEPS):
        if not draw.left:
            break
        _honest_act(pair, sent, draw)
        for event in pair.take(pair.listener):
            _note(pair, event, got)
        pair.take(pair.dialer)
    pair.settle()
    for event in pair.take(pair.listener):
        _note(pair, event, got)
    for key, body in got.items():
        assert sent[key].startswith(body), "other bytes than were sent"


def _honest_act(pair: Pair, sent: dict[StreamKey, bytearray], draw: Draw) -> None:
    action = draw.number(6)
    key = list(sent)[draw.number(256) % len(sent)] if sent else None
    try:
        if action == 0 or key is None:
            sent.setdefault(pair.dialer.open(REQUEST, end=False), bytearray())
        elif action == 1:
            size = min(draw.number(2**12), max(0, pair.dialer.window(key)))
            data = bytes([draw.number(256)]) * size
            pair.dialer.send(key, data)
            sent[key] += data
        elif action == 2:
            pair.dialer.finish(key)
        elif action == 3:
            pair.dialer.reset(key, CANCEL)
        elif action == 4:
            pair.carry(pair.dialer, cut=1 + draw.number(300))
        else:
            pair.carry(pair.listener, limit=1 + draw.number(2000))
    except StreamReset:
        pass


def _note(pair: Pair, event: Event, got: dict[StreamKey, bytearray]) -> None:
    match event:
        case Opened(key, headers, _):
            assert list(headers) == REQUEST
            got[key] = bytearray()
        case Data(key, data, flow):
            got[key] += data
            pair.listener.credit(key, flow)
        case Ended(key):
            if _is_answered(pair, key):
                pair.listener.send_head(key, OK)
                pair.listener.finish(key)
        case Head() | Trailers():
            raise AssertionError("nobody answered")


def _is_answered(pair: Pair, key: StreamKey) -> bool:
    """Every second stream is answered."""
    return key % 4 == 2


def seeds() -> dict[str, bytes]:
    """An honest talk, and each flood in small."""
    request = b"\x02\x00\x01\x00\x00\x01"
    return {
        "honest": b"\x01" + b"\x00\x00\x04\x00\x10\x01\x00\x02\x00\x61\x04\x00\x00\x07\x02\x00\x04\x00\xff\x05\x00\x00",
        "request": b"\x02\x01" + b"\x02" + b"\x00\x00\x00\x01\x00\x00\x01",
        "cut-frames": b"\x00\x03\x04\x05\x00\x04" + b"\x00\x00\x01\x00\x05abcde" + b"\x04\x00\x00\x03" * 3,
        "too-large": b"\x00\x03\x04\x05\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        "settings": b"\x02\x01" + b"\x03\x00\x03" + b"\x01\x04\x00\x00\x02\x02" * 4 + request,
        "resets": b"\x02\x00" + (b"\x04\x00\x01\x00\x00\x00\x01\x03\x00\x01\x02\x00" + b"abcd") * 6,
        "goaway": b"\x03\x01" + b"\x05\x00\x00\x01\x07\x00\x00\x00\x08" + bytes(8),
        "acts": b"\x02\x00" + b"\x00\x00\x01\x00\x01" + b"\x02\x00\x00\x00\x00\x00\x00\x05\x00" * 4,
    }
