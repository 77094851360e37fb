"""Links that change their keys while they run: nothing is lost in any cut, and a hostile member gets only an error."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from meshnode.config.mesh import MeshSection
from meshnode.errors import CertificateRefused, HandshakeFailed, ProtocolViolation
from meshnode.model.ids import NodeId
from meshnode.noise import Channel, Initiator, Preface, Rekeying, Responder, Secrets, StaticKey, Transport, prologue
from tests.fuzz.kit import Draw, cut, in_words, mutate, refused

SECTION = MeshSection(rekey_s=600.0)
SECRETS = Secrets.derive(b"m" * 32, b"member")
PROLOGUE = prologue(b"i" * 32)
STATICS = [StaticKey(X25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in (1, 2)]
NODES = [NodeId(bytes([number]) * 32) for number in (1, 2)]
KEYS = (b"\x01" * 32, b"\x02" * 32)
BINDING = b"\x03" * 32
STEPS = 40
ANSWER_BYTES = 4 * 2100
"""A handshake message, a refusal and a notice of new keys, sealed."""


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _honest(draw)
    else:
        _hostile(draw)


def _rekeying(me: int, refuses: bool) -> Rekeying:
    def check(payload: bytes, static: bytes) -> tuple[NodeId, bytes]:
        if refuses or len(payload) != 32:
            raise CertificateRefused("no member any more")
        return NodeId(payload), static

    def initiator(binding: bytes) -> Initiator:
        return Initiator(Preface(), SECRETS, STATICS[me], bytes(NODES[me]), PROLOGUE + binding)

    def responder(binding: bytes) -> Responder:
        return Responder(lambda _: SECRETS, STATICS[me], lambda _: bytes(NODES[me]), lambda _: PROLOGUE + binding)

    return Rekeying(initiator, responder, check)


def _channel(me: int, refuses: bool = False) -> Channel:
    keys = KEYS if me == 0 else KEYS[::-1]
    transport = Transport(*keys, BINDING)
    return Channel(transport, NODES[1 - me], SECTION, _rekeying(me, refuses), 0.0, initiator=me == 0)


@dataclass
class _End:
    """One channel of two, what is on its way to it, and what it has said and heard."""

    channel: Channel
    wire: bytearray = field(default_factory=bytearray)
    said: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def says(self, records: list[bytes], other: _End) -> None:
        self.said += records
        other.wire += self.channel.seal(records)

    def hears(self, count: int, now: float) -> bool:
        piece = bytes(self.wire[:count])
        del self.wire[:count]
        self.heard += self.channel.open(piece, now)
        return bool(piece)


def _honest(draw: Draw) -> None:
    ends = [_End(_channel(0)), _End(_channel(1))]
    now = 0.0
    for _ in range(STEPS):
        if not draw.left:
            break
        me = draw.number(2)
        match draw.number(4):
            case 0:
                ends[me].says([bytes([draw.number(2)]) * (1 + draw.number(300))], ends[1 - me])
            case 1:
                ends[me].hears(1 + draw.number(700), now)
            case 2:
                ends[me].says([], ends[1 - me])
            case _:
                _settle(ends, now)
                now += draw.number(300)
                for end in ends:
                    end.channel.tick(now)
    _settle(ends, now)
    assert ends[0].heard == ends[1].said and ends[1].heard == ends[0].said, "records lost, changed or reordered"
    assert ends[0].channel.rekeyed == ends[1].channel.rekeyed
    assert now < SECTION.rekey_s * 2 or ends[0].channel.rekeyed, "the keys grow old"


def _settle(ends: list[_End], now: float) -> None:
    moved = True
    while moved:
        moved = False
        for me in (0, 1):
            ends[me].says([], ends[1 - me])
            moved |= ends[1 - me].hears(len(ends[1 - me].wire), now)


def _hostile(draw: Draw) -> None:
    """The other end holds the keys and says anything."""
    me, refuses = draw.number(2), draw.flag()
    victim = _channel(me, refuses)
    liar = Transport(*(KEYS if me else KEYS[::-1]), BINDING)
    machine: Initiator | None = None
    now = 0.0
    for _ in range(STEPS):
        if not draw.left:
            return
        kind = draw.number(6)
        match draw.number(5):
            case 0:
                now += draw.number(2**11)
                if refused(lambda now=now: victim.tick(now), HandshakeFailed):  # type: ignore[misc]
                    return
                record = b"\x00"
            case 1:
                machine = _rekeying(1 - me, False).initiator(BINDING)
                record = b"\x02" + machine.bytes_to_send()
            case 2:
                record = b"\x02" + mutate(_rekeying(1 - me, False).initiator(BINDING).bytes_to_send(), draw)
            case 3:
                record = bytes([kind])
            case _:
                record = bytes([kind]) + draw.some(100)
        if not _survives(victim, liar.seal(record), draw, now):
            return


def _survives(victim: Channel, wire: bytes, draw: Draw, now: float) -> bool:
    pattern = draw.take(1)
    said = b""
    for piece in cut(wire, pattern):
        try:
            records = victim.open(piece, now)
        except (ProtocolViolation, HandshakeFailed) as error:
            in_words(error)
            assert refused(lambda piece=piece: victim.open(piece, now), ProtocolViolation)  # type: ignore[misc]
            assert len(victim.seal([])) <= ANSWER_BYTES
            return False
        assert all(record[0] < 2 for record in records), "a control record passed on"
        said += victim.seal([])
    assert len(said) <= ANSWER_BYTES
    return True


def seeds() -> dict[str, bytes]:
    """A link that grows old in small pieces, and each record out of place."""
    hour = b"\x00\x03\x01\x2c" * 8
    return {
        "honest": b"\x01" + b"\x00\x00\x01\x00\x40" + b"\x01\x01\x01\x00" + hour + b"\x01\x00\x00\x00\x10",
        "in-pieces": b"\x01"
        + b"\x00\x03\x01\x2c" * 2
        + (b"\x00\x02" + b"\x01\x01\x00\x20" + b"\x01\x02" + b"\x00\x01\x00\x30") * 6,
        "begins-handshake": b"\x00\x01\x00" + b"\x00\x01\xff" + b"\x03\x03\xff",
        "refused": b"\x00\x01\x01" + b"\x00\x01\x10" + b"\x02\x04\x05abcde\x10",
        "changed": b"\x00\x01\x00" + b"\x00\x02\x00\x00\x10\x03",
        "out-of-place": b"\x00\x00\x00" + b"\x03\x03\xff",
        "unknown-kind": b"\x00\x01\x00" + b"\x05\x04\x02ab\xff",
        "grows-old": b"\x00\x01\x00" + b"\x00\x00\x07\xff\xff" * 3,
    }
