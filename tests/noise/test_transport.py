from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation, Tampered
from meshnode.noise import MAX_PLAINTEXT_BYTES, Transport, Volume
from meshnode.noise.transport import WORN_BYTES, WORN_MESSAGES

KEYS = (b"a" * 32, b"b" * 32)


def pair() -> tuple[Transport, Transport]:
    return Transport(*KEYS), Transport(*reversed(KEYS))


def assert_over(transport: Transport) -> None:
    with pytest.raises(ProtocolViolation):
        transport.open(b"")
    with pytest.raises(ProtocolViolation):
        transport.seal(b"x")


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
@settings(deadline=None, max_examples=60)
def test_any_cut_of_the_wire_gives_the_same_records(records: list[bytes], data: st.DataObject) -> None:
    sender, receiver = pair()
    wire = b"".join(sender.seal(record) for record in records)
    found: list[bytes] = []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        found += receiver.open(wire[:cut])
        wire = wire[cut:]
    assert found == records


def test_byte_by_byte_is_a_cut_like_any_other() -> None:
    sender, receiver = pair()
    wire = sender.seal(b"one") + sender.seal(bytes(5000))
    found = [record for byte in wire for record in receiver.open(bytes([byte]))]
    assert found == [b"one", bytes(5000)]


def test_many_records_in_one_read_come_out_in_order() -> None:
    sender, receiver = pair()
    records = [b"%d" % number for number in range(5000)]
    assert receiver.open(b"".join(map(sender.seal, records)) + b"\x00") == records


@pytest.mark.parametrize("size", [1, 2, 16_384, MAX_PLAINTEXT_BYTES])
def test_sizes_up_to_the_largest_pass(size: int) -> None:
    sender, receiver = pair()
    record = sender.seal(bytes(size))
    assert len(record) == 2 + size + 16
    assert receiver.open(record) == [bytes(size)]


@pytest.mark.parametrize("size", [0, MAX_PLAINTEXT_BYTES + 1])
def test_other_sizes_are_refused_and_the_end(size: int) -> None:
    sender, _ = pair()
    with pytest.raises(ValueError, match="65519"):
        sender.seal(bytes(size))
    assert_over(sender)


@pytest.mark.parametrize("size", range(17))
def test_a_record_that_carries_nothing_is_refused_by_its_length_alone(size: int) -> None:
    _, receiver = pair()
    with pytest.raises(ProtocolViolation):
        receiver.open(size.to_bytes(2, "big"))
    assert_over(receiver)


def test_every_bit_of_a_record_counts() -> None:
    wire = pair()[0].seal(b"a record of twenty-nine bytes")
    for bit in range(len(wire) * 8):
        _, receiver = pair()
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ProtocolViolation):
            # Bytes follow, so that a longer announced length is not merely waited for.
            receiver.open(bytes(changed) + bytes(65_536))
        assert_over(receiver)


def test_a_replayed_record_is_refused() -> None:
    sender, receiver = pair()
    record = sender.seal(b"pay once")
    assert receiver.open(record) == [b"pay once"]
    with pytest.raises(ProtocolViolation):
        receiver.open(record)
    assert_over(receiver)


def test_reordered_records_are_refused() -> None:
    sender, receiver = pair()
    first, second = sender.seal(b"first"), sender.seal(b"second")
    with pytest.raises(ProtocolViolation):
        receiver.open(second + first)
    assert_over(receiver)


def test_a_dropped_record_is_noticed_at_the_next() -> None:
    sender, receiver = pair()
    sender.seal(b"dropped")
    with pytest.raises(ProtocolViolation):
        receiver.open(sender.seal(b"next"))


def test_a_record_is_not_accepted_back_by_its_sender() -> None:
    sender, _ = pair()
    record = sender.seal(b"mirror")
    with pytest.raises(ProtocolViolation):
        sender.open(record)


def test_an_unforeseen_exception_is_the_end_too() -> None:
    transport, _ = pair()
    with pytest.raises(TypeError):
        transport.open("text")  # type: ignore[arg-type]
    assert_over(transport)


def test_volumes_count_messages_and_plaintext_bytes() -> None:
    sender, receiver = pair()
    receiver.open(sender.seal(b"four") + sender.seal(b"fifth"))
    assert sender.sealed == receiver.opened == Volume(messages=2, bytes=9)
    assert sender.opened == receiver.sealed == Volume(0, 0)


@pytest.mark.parametrize("counter", ["_sealed", "_opened", "_sealed_bytes", "_opened_bytes"])
def test_either_direction_wears_the_keys_out(counter: str) -> None:
    transport, _ = pair()
    limit = WORN_BYTES if counter.endswith("bytes") else WORN_MESSAGES
    setattr(transport, counter, limit - 1)
    assert not transport.worn
    setattr(transport, counter, limit)
    assert transport.worn


def test_no_nonce_comes_again_and_each_is_the_specifications() -> None:
    """Both ends could count wrongly alike, and nobody would see it: section 12.3 is counted here by other means."""
    sender, _ = pair()
    numbers = [*range(300), *(2**bits + off for bits in (16, 31, 32, 48, 63) for off in (-1, 0, 1))]
    for number in numbers:
        sender._sealed = number
        nonce = bytes(4) + number.to_bytes(8, "little")
        assert sender.seal(b"same")[2:] == ChaCha20Poly1305(KEYS[0]).encrypt(nonce, b"same", b"")
        assert sender.sealed.messages == number + 1


def test_the_reserved_nonce_is_never_used() -> None:
    sender, receiver = pair()
    sender._sealed = receiver._opened = 2**64 - 2
    assert receiver.open(sender.seal(b"last")) == [b"last"]
    with pytest.raises(ProtocolViolation, match="nonce"):
        sender.seal(b"one too many")
    with pytest.raises(ProtocolViolation, match="nonce"):
        receiver.open(b"\x00\x11" + bytes(17))


def test_opening_stops_behind_a_record_that_says_so() -> None:
    sender, receiver = pair()
    wire = sender.seal(b"\x00a") + sender.seal(b"\x03switch") + sender.seal(b"\x00b") + b"\x00"
    assert receiver.open(wire, until=2) == [b"\x00a", b"\x03switch"]
    assert receiver.open(b"", until=2) == [b"\x00b"]
    assert receiver.take_rest() == b"\x00"
    assert receiver.take_rest() == b""


def test_the_rest_is_what_may_be_under_other_keys() -> None:
    sender, receiver = pair()
    next_sender, next_receiver = Transport(b"c" * 32, b"d" * 32), Transport(b"d" * 32, b"c" * 32)
    wire = sender.seal(b"\x03") + next_sender.seal(b"\x00new")
    assert receiver.open(wire[:-5], until=2) == [b"\x03"]
    assert next_receiver.open(receiver.take_rest()) == []
    assert next_receiver.open(wire[-5:]) == [b"\x00new"]


def test_peeking_takes_nothing() -> None:
    sender, receiver = pair()
    wire = sender.seal(b"first") + sender.seal(b"second")
    for size in range(2 + 5 + 16):
        assert receiver.peek(wire[:size]) is None
    assert receiver.peek(wire) == receiver.peek(wire[:23]) == b"first"
    assert receiver.opened == Volume(0, 0)
    assert receiver.open(wire) == [b"first", b"second"]


@pytest.mark.parametrize("wire", [b"\x00\x00\x00", b"\x00\x10" + bytes(16), b"\x00\x11" + bytes(17)])
def test_peeking_at_a_forged_record_is_a_violation(wire: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        pair()[1].peek(wire)


def test_a_transport_keeps_what_binds_it() -> None:
    assert Transport(*KEYS, b"hash").binding == b"hash"


def test_a_changed_record_is_not_held_against_the_peer() -> None:
    """Anybody on the way can change one, and would have honest nodes shut each other out."""
    for changed in (lambda wire: wire[:-1] + bytes([wire[-1] ^ 1]), lambda wire: b"\x00\x01" + wire[2:]):
        sender, receiver = pair()
        with pytest.raises(Tampered):
            receiver.open(changed(sender.seal(b"record")))
