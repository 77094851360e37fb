from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode.errors import DecodeError
from meshnode.model import codec
from meshnode.model.advert import MAX_ADVERT_BYTES, Advert, Hardware, ModelOffer, Neighbour, SignedAdvert, pack, unpack

RAW = st.binary(min_size=32, max_size=32)
WORDS = st.text(max_size=20)
COUNTERS = st.integers(0, 2**62)
OFFERS = st.builds(
    ModelOffer,
    name=WORDS,
    context=st.integers(0, 1_000_000),
    slots=st.integers(0, 4096),
    loaded=st.booleans(),
    family=WORDS,
    quant=WORDS,
    digest=st.binary(max_size=32),
    dialects=st.lists(WORDS, max_size=3).map(tuple),
    features=st.lists(WORDS, max_size=3).map(tuple),
)
ADVERTS = st.builds(
    Advert,
    id=RAW,
    mesh=RAW,
    incarnation=COUNTERS,
    sequence=COUNTERS,
    lifetime_s=st.integers(1, 86_400),
    name=WORDS,
    host=st.binary(max_size=16),
    addresses=st.lists(WORDS, max_size=3).map(tuple),
    models=st.lists(OFFERS, max_size=3).map(tuple),
    neighbours=st.lists(st.builds(Neighbour, RAW, st.integers(0, 60_000)), max_size=4).map(tuple),
    hardware=st.builds(Hardware, gpu=WORDS, gpus=st.integers(0, 64), vram_bytes=COUNTERS),
    posture=WORDS,
    watts=st.integers(0, 1_000_000),
    relay=st.booleans(),
    draining=st.booleans(),
    gone=st.booleans(),
)
PLAIN = Advert(bytes(32), bytes(32), 1, 2, 180)


@settings(deadline=None, max_examples=150)
@given(ADVERTS)
def test_what_is_packed_is_read_back_from_the_only_bytes_it_has(advert: Advert) -> None:
    body = pack(advert)
    again = unpack(body)
    assert again == advert
    assert pack(again) == body
    assert cbor2.dumps(cbor2.loads(body), canonical=True) == body
    assert again.node == advert.id
    assert again.order == (advert.incarnation, advert.sequence)


@settings(deadline=None, max_examples=300)
@given(ADVERTS, st.data())
def test_damaged_bytes_are_an_advert_or_an_error(advert: Advert, data: st.DataObject) -> None:
    body = bytearray(pack(advert))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = unpack(bytes(body))
    except DecodeError:
        return
    assert read.order >= (0, 0)
    assert len(read.node) == 32
    assert 1 <= read.lifetime_s <= 86_400


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": bytes(31)},
        {"id": "a" * 43 + "="},  # base64 of 32 bytes
        {"mesh": bytes(33)},
        {"incarnation": -1},
        {"sequence": 2**62 + 1},
        {"lifetime_s": 0},
        {"lifetime_s": 86_401},
        {"lifetime_s": 1.0},
        {"name": "x" * 129},
        {"host": bytes(17)},
        {"addresses": ["a"] * 17},
        {"models": [{"name": "m", "slots": 4097}]},
        {"models": [{}]},
        {"neighbours": [[bytes(32), 60_001]]},
        {"neighbours": [[bytes(32)]]},
        {"gone": 1},
        {"hardware": []},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    fields = codec.decode(pack(PLAIN), dict[str, object])
    unpack(codec.encode(fields))
    with pytest.raises(DecodeError):
        unpack(codec.encode(fields | wrong))


def test_a_field_of_a_later_version_is_passed_over() -> None:
    fields = codec.decode(pack(PLAIN), dict[str, object])
    assert unpack(codec.encode(fields | {"colour": "blue"})) == PLAIN


def test_too_large_is_refused_both_ways() -> None:
    large = replace(PLAIN, models=tuple(ModelOffer("m" * 100 + str(n)) for n in range(60)))
    with pytest.raises(DecodeError, match=str(MAX_ADVERT_BYTES)):
        pack(large)
    with pytest.raises(DecodeError, match=str(MAX_ADVERT_BYTES)):
        unpack(codec.encode(large))


def test_a_signed_advert_has_a_whole_signature() -> None:
    signed = SignedAdvert(pack(PLAIN), bytes(64))
    assert codec.decode(codec.encode(signed), SignedAdvert) == signed
    for length in (0, 63, 65):
        with pytest.raises(DecodeError):
            codec.decode(codec.encode([signed.body, bytes(length)]), SignedAdvert)
