from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import DecodeError
from meshnode.gossip.facts import Facts
from meshnode.gossip.messages import (
    MAX_LISTED,
    MAX_WANTED,
    Ack,
    AckFor,
    Adverts,
    Carried,
    Digest,
    Message,
    Probe,
    ProbeFor,
    Proof,
    Suspect,
    Version,
    Versions,
    Want,
    advert_frames,
    decode_message,
    encode_message,
    version_frames,
)
from meshnode.model import codec
from meshnode.model.advert import MAX_ADVERT_BYTES, SignedAdvert
from meshnode.model.codec import MAX_BYTES

RAW = st.binary(min_size=32, max_size=32)
COUNTERS = st.integers(0, 2**62)
CARRIED = st.builds(
    Carried,
    st.builds(SignedAdvert, st.binary(max_size=300), st.binary(min_size=64, max_size=64)),
    st.integers(0, 86_400),
)
SIGNED = st.builds(SignedAdvert, st.binary(max_size=300), st.binary(min_size=64, max_size=64))
NUMBERS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, 1_000_000)
FACTS = st.none() | st.builds(Facts, COUNTS, COUNTS, COUNTS, st.integers(0, 86_400_000))
VERSIONS = st.builds(Version, RAW, COUNTERS, COUNTERS)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Adverts, st.lists(CARRIED, max_size=4).map(tuple)),
    st.builds(Digest, st.binary(min_size=2048, max_size=2048)),
    st.builds(Versions, st.binary(max_size=256), st.lists(VERSIONS, max_size=5).map(tuple)),
    st.builds(Want, st.lists(RAW, max_size=5).map(tuple)),
    st.builds(Probe, NUMBERS, FACTS),
    st.builds(Ack, NUMBERS, FACTS),
    st.builds(ProbeFor, RAW, NUMBERS),
    st.builds(AckFor, RAW, NUMBERS),
    st.builds(Suspect, RAW, COUNTERS, COUNTERS),
    st.builds(Proof, SIGNED, SIGNED),
)


@settings(deadline=None)
@given(MESSAGES)
def test_every_message_is_read_back(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@settings(deadline=None, max_examples=200)
@given(MESSAGES, st.data())
def test_a_cut_frame_is_an_error(message: Message, data: st.DataObject) -> None:
    frame = encode_message(message)
    with pytest.raises(DecodeError):
        decode_message(frame[: data.draw(st.integers(0, len(frame) - 1))])


@settings(deadline=None, max_examples=400)
@given(MESSAGES, st.data())
def test_a_damaged_frame_is_a_message_or_an_error(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode_message(message))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, min(len(frame), 64) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode_message(bytes(frame))
    except DecodeError:
        return
    assert encode_message(read) == bytes(frame), "one message has one spelling"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=100))
def test_garbage_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_message(data)


@pytest.mark.parametrize(
    "wrong",
    [
        ["adverts"],
        ["adverts", [], 1],
        ["news", []],
        ["digest", bytes(2047)],
        ["versions", bytes(257), []],
        ["versions", b"", [[bytes(32), 1]]],
        ["versions", b"", [[bytes(32), -1, 0]]],
        ["want", [bytes(31)]],
        ["want", [bytes(32)] * (MAX_WANTED + 1)],
        ["adverts", [[[b"", bytes(64)], -1]]],
        ["adverts", [[[b"", bytes(64)], 86_401]]],
        ["adverts", [[[bytes(MAX_ADVERT_BYTES + 1), bytes(64)], 1]]],
        ["probe"],
        ["probe", -1, None],
        ["probe", 2**32, None],
        ["ack", 1],
        ["ack", 1, None, None],
        ["probe-for", bytes(31), 1],
        ["ack-for", bytes(32)],
        ["suspect", bytes(32), 1, 2**62 + 1],
        ["proof", [b"", bytes(64)]],
        ["proof", [b"", bytes(63)], [b"", bytes(64)]],
        [["probe", 1, None]],
        [b"probe", 1, None],
        "probe",
        [],
        {},
        None,
    ],
)
def test_a_frame_out_of_shape_is_refused(wrong: object) -> None:
    with pytest.raises(DecodeError):
        decode_message(codec.encode(wrong))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, MAX_ADVERT_BYTES), max_size=120))
def test_adverts_are_cut_into_frames_that_fit_and_lose_nothing(sizes: list[int]) -> None:
    items = [Carried(SignedAdvert(bytes([n % 256]) * size, bytes(64)), 86_400) for n, size in enumerate(sizes)]
    frames = list(advert_frames(items))
    assert all(len(frame) <= MAX_BYTES for frame in frames)
    assert [item for frame in frames for item in decode_message(frame).items] == items  # type: ignore[union-attr]
    assert len(frames) <= 1 + sum(size + 100 for size in sizes) // (MAX_BYTES - 5000)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 3000) | st.integers(0, 5), max_size=12))
def test_versions_are_cut_into_frames_that_fit_and_lose_nothing(counts: list[int]) -> None:
    buckets = [
        (b, [Version(bytes([b]) + n.to_bytes(31, "big"), 2**62, 2**62) for n in range(c)]) for b, c in enumerate(counts)
    ]
    frames = list(version_frames(buckets))
    assert all(len(frame) <= MAX_BYTES for frame in frames)
    read = [decode_message(frame) for frame in frames]
    assert sorted(v.id for m in read for v in m.known) == sorted(v.id for _, vs in buckets for v in vs)  # type: ignore[union-attr]
    for message in read:
        assert isinstance(message, Versions)
        for bucket in message.whole:
            assert counts[bucket] == sum(v.id[0] == bucket for v in message.known), "whole means that none is missing"
    named = [bucket for m in read for bucket in m.whole]  # type: ignore[union-attr]
    assert sorted(named) == [b for b, c in enumerate(counts) if c <= MAX_LISTED]
