"""Noise records: any cut opens the same plaintexts, and what was not sealed is never opened."""

from __future__ import annotations

from meshnode.errors import ProtocolViolation
from meshnode.noise import Transport
from tests.fuzz.kit import Draw, cut, mutate, refused

KEYS = (b"\x01" * 32, b"\x02" * 32)


def one_input(data: bytes) -> None:
    draw = Draw(data)
    pattern = draw.take(4)
    sealed = _sealed(draw)
    valid = b"".join(record for _, record in sealed)
    wire = draw.rest() if not sealed else mutate(valid, draw)
    plaintexts, failed = _open(wire, pattern)
    assert plaintexts == [plaintext for plaintext, _ in sealed][: len(plaintexts)], "opened what was not sealed"
    at_once, failed_at_once = _open(wire, b"")
    assert failed is failed_at_once, "the cut decides"
    assert failed or plaintexts == at_once
    if wire == valid:
        assert not failed and len(plaintexts) == len(sealed)


def _sealed(draw: Draw) -> list[tuple[bytes, bytes]]:
    """Up to four plaintexts and their records."""
    transport = Transport(*KEYS)
    plaintexts = [bytes([number]) * (1 + draw.number(200)) for number in range(draw.number(5))]
    return [(plaintext, transport.seal(plaintext)) for plaintext in plaintexts]


def _open(wire: bytes, pattern: bytes) -> tuple[list[bytes], bool]:
    transport = Transport(*reversed(KEYS))
    plaintexts: list[bytes] = []
    try:
        for piece in cut(wire, pattern):
            plaintexts += transport.open(piece)
    except ProtocolViolation:
        assert refused(lambda: transport.open(b"\x00"), ProtocolViolation), "it lives on after a violation"
        assert refused(lambda: transport.seal(b"\x00"), ProtocolViolation), "it seals after a violation"
        return plaintexts, True
    return plaintexts, False


def seeds() -> dict[str, bytes]:
    """Whole records, a changed one, and two that nobody sealed."""
    return {
        "three-records": b"\x00\x09\x20\xff" + b"\x03\x05\x10\x64",
        "changed-tag": b"\x05\x00\x00\x00" + b"\x02\x05\x05" + b"\x00\x08\x01",
        "cut-short": b"\xff" * 4 + b"\x01\xc0" + b"\x04\x30",
        "too-short-record": b"\x00" * 4 + b"\x00" + b"\x00\x10" + bytes(16),
        "never-ends": b"\x00" * 4 + b"\x00" + b"\xff\xff" + bytes(64),
    }
