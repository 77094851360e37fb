"""API keys: credentials in headers open a door only where they are one of its keys, whole; keys that are asked for over
the control route are refused in words or within every bound; and a file of keys is read as it was written, or not."""

from __future__ import annotations

import msgspec

from meshnode.access import KEY_PREFIX, KeyRecord, Ring, Scope, Wish, credentials, digest_of, key_of
from meshnode.access.record import MOST_MODELS, record_of
from meshnode.errors import DecodeError, RequestError, Unauthorized
from meshnode.front.keyring import MISSING, UNKNOWN, Keyring
from meshnode.model import codec
from tests.fuzz.kit import Draw, in_words, mutate

KEYS = tuple(key_of(bytes([n]) * 32) for n in range(3))
SECRET = "5ec2e7" * 10 + "0000"
HEADERS = ("authorization", "x-api-key", "api-key", "cookie")
VALUES = tuple(value.encode() for key in (*KEYS, SECRET) for value in (f"Bearer {key}", key, f"Basic {key}"))
WISH = (
    b'{"owner":"ann","scopes":["infer","admin"],"models":["llama*","q@n"],"label":"internal","priority":"low",'
    b'"expires_s":60,"timeout_s":1.5,"first_token_s":2,"silence_s":3}'
)


def _ring() -> Ring:
    ring = Ring()
    # The third is no key of this door.
    for number, key in enumerate(KEYS[:2]):
        ring, _ = ring.added(Wish(owner="ann", expires_s=60.0), f"{number:08x}", digest_of(key) or b"", 1000.0)
    ring, _ = ring.revoked("00000001", 1001.0)
    return ring


RING = _ring()


def one_input(data: bytes) -> None:
    draw = Draw(data)
    (_ask, _wish, _file)[draw.number(3)](draw)


def _ask(draw: Draw) -> None:
    headers: dict[str, str] = {}
    for _ in range(draw.number(3)):
        name, value = HEADERS[draw.number(len(HEADERS))], VALUES[draw.number(len(VALUES))]
        headers[name] = (draw.some(160) if draw.flag() else value).decode("latin-1")
    if draw.left and headers:
        name = next(iter(headers))
        headers[name] = mutate(headers[name].encode("latin-1"), draw).decode("latin-1")
    found = credentials(headers)
    assert len(found) <= 2 and all(0 < len(one) <= 128 and one.isascii() and one.isprintable() for one in found)
    known = [one for one in found if one in (KEYS[0], SECRET)]
    said = key = ""
    try:
        key = Keyring(RING, SECRET, wall=lambda: 1010.0).admit(headers, Scope.INFER).key
    except Unauthorized as error:
        said = error.message
    # A refusal repeats nothing of what was sent.
    assert said == ("" if known else UNKNOWN if found else MISSING)
    assert key == ("00000000" if known and known[0] == KEYS[0] else "")


def _wish(draw: Draw) -> None:
    data = draw.rest() if draw.flag() else mutate(WISH, draw)
    try:
        wish = msgspec.json.decode(data, type=Wish)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return
    assert 0 < len(wish.owner) <= 64 and wish.owner.isprintable() and wish.owner == wish.owner.strip()
    assert 0 < len(wish.scopes) <= 2 and len(wish.models) <= MOST_MODELS
    times = (wish.timeout_s, wish.first_token_s, wish.silence_s)
    assert all(one is None or 0 < one <= 86_400 for one in times)
    record = record_of(wish, "00000000", b"d" * 32, 1000.0)
    assert record.state(1000.0) == "good"
    try:
        data = codec.encode(record)
    except DecodeError:
        raise AssertionError("what was read cannot be kept") from None
    assert codec.decode(data, KeyRecord) == record


def _file(draw: Draw) -> None:
    valid = codec.encode(RING.records[draw.number(2)])
    try:
        record = codec.decode(draw.rest() if draw.flag() else mutate(valid, draw), KeyRecord)
    except (DecodeError, RequestError) as error:
        in_words(error)
        return
    assert len(record.digest) == 32 and len(record.id) == 8
    assert codec.decode(codec.encode(record), KeyRecord) == record
    # What was read can be looked up, and opens nothing to the wrong key.
    assert Ring((record,)).caller(KEYS[2], 0.0) is None


def seeds() -> dict[str, bytes]:
    """Each way a key comes, right and wrong; a wish; a record."""
    return {
        "bearer": b"\x00\x01\x00\x00\x00",
        "x-api-key": b"\x00\x01\x01\x01\x00",
        "revoked": b"\x00\x01\x00\x03\x00",
        "unknown": b"\x00\x01\x00\x06\x00",
        "secret": b"\x00\x01\x00\x09\x00",
        "basic": b"\x00\x01\x00\x02\x00",
        "both": b"\x00\x02\x00\x06\x00\x01\x01\x00",
        "other-text": b"\x00\x01\x00\x00\x01\x20Bearer " + KEY_PREFIX.encode() + b"a" * 22,
        "wish": b"\x01\x00",
        "wish-lone-surrogate": b'\x01\x01{"owner":"\\ud800"}',
        "wish-nan": b'\x01\x01{"owner":"a","timeout_s":NaN}',
        "record": b"\x02\x00\x00",
        "record-cut": b"\x02\x01\x01" + codec.encode(RING.records[0])[:-1],
    }
