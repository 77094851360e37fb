"""Adverts: what is read can be said again in as few bytes, and says the same."""

from __future__ import annotations

from meshnode.errors import DecodeError
from meshnode.model import codec
from meshnode.model.advert import MAX_ADVERT_BYTES, Advert, Hardware, ModelOffer, Neighbour, pack, unpack
from tests.fuzz.kit import Draw, mutate


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _read(draw.rest())
        return
    advert = _advert(draw)
    try:
        body = pack(advert)
    except DecodeError:
        assert len(codec.encode(advert)) > MAX_ADVERT_BYTES
        return
    assert unpack(body) == advert
    _read(mutate(body, draw))


def _read(body: bytes) -> None:
    try:
        advert = unpack(body)
    except DecodeError:
        return
    # Defaults may be spelled out, and fields of later versions are ignored: both are gone in the second writing.
    again = pack(advert)
    assert len(again) <= len(body)
    assert unpack(again) == advert
    assert advert.order >= (0, 0) and len(advert.node) == 32
    assert hash(advert) == hash(unpack(again))


def _advert(draw: Draw) -> Advert:
    models = tuple(
        ModelOffer(draw.some(20).hex(), context=draw.number(2**17), slots=draw.number(4097), loaded=draw.flag())
        for _ in range(draw.number(9))
    )
    return Advert(
        draw.take(32).ljust(32, b"i"),
        b"m" * 32,
        draw.number(2**62),
        draw.number(2**62),
        1 + draw.number(86_400),
        name=draw.some(40).hex(),
        addresses=tuple(draw.some(20).hex() for _ in range(draw.number(17))),
        models=models,
        neighbours=tuple(Neighbour(bytes([n]) * 32, draw.number(60_000)) for n in range(draw.number(65))),
        hardware=Hardware("gpu", draw.number(65), draw.number(2**40), draw.number(2**40)),
        gone=draw.flag(),
    )


def seeds() -> dict[str, bytes]:
    """A small advert, a full one, and a tombstone as it travels."""
    spelled = {"id": b"i" * 32, "mesh": b"m" * 32, "incarnation": 1, "sequence": 2, "lifetime_s": 180, "name": ""}
    return {
        "small": b"\x00\x01\x03abc\x10\x00\x00\x04\x01" + b"i" * 32 + bytes(16),
        "full": b"\x00\x08" + bytes(range(200)) * 2,
        "tombstone": b"\x01" + pack(Advert(b"i" * 32, b"m" * 32, 3, 4, 86_400, gone=True)),
        "default-spelled-out": b"\x01" + codec.encode(spelled),
        "unknown-field": b"\x01" + codec.encode(spelled | {"later": [1, 2]}),
        "float-for-a-number": b"\x01" + codec.encode(spelled | {"sequence": 2.0}),
    }
