"""The wire's messages, each in one frame of at most 64 KiB of canonical CBOR, and how lists are cut to fit.

A round of anti-entropy: Digest -> Versions of the buckets that differ -> Want what is newer there, Adverts of what is
newer here -> Adverts. A probe: Probe -> Ack, or around: ProbeFor -> Probe -> Ack -> AckFor. Not for what an advert
says (model.advert) nor for when to send (machine.py, rounds.py, detector.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError
from meshnode.gossip.digest import DIGEST_BYTES
from meshnode.gossip.facts import Facts
from meshnode.model import codec
from meshnode.model.advert import Counter, RawId, SignedAdvert

MAX_WANTED = 1024
MAX_LISTED = 1200
_FRAME_HEAD = 32
_ITEM_HEAD = 16
"""Upper bounds of the CBOR heads around a list and around one carried advert, in bytes."""


_TEXT = 0x60
"""The head of a CBOR text shorter than 24 bytes, without its length."""

Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Carried(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An advert as signed, and what is left of its lifetime in whole seconds. 0: it is over, and serves as proof of
    how far its node has counted."""

    signed: SignedAdvert
    left_s: Annotated[int, Meta(ge=0, le=86_400)]


class Version(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The newest advert of a node that the sender knows."""

    id: RawId
    incarnation: Counter
    sequence: Counter


class Adverts(msgspec.Struct, frozen=True, array_like=True, tag="adverts", forbid_unknown_fields=True):
    """News, or what was wanted."""

    items: tuple[Carried, ...]


class Digest(msgspec.Struct, frozen=True, array_like=True, tag="digest", forbid_unknown_fields=True):
    """The sums of every bucket: asks for the versions where they differ."""

    sums: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class Versions(msgspec.Struct, frozen=True, array_like=True, tag="versions", forbid_unknown_fields=True):
    """What the sender knows. `whole` names the buckets of which nothing is missing in this frame, one byte each: a
    node of these that is not listed is unknown to the sender."""

    whole: Annotated[bytes, Meta(max_length=256)]
    known: Annotated[tuple[Version, ...], Meta(max_length=MAX_LISTED)]


class Want(msgspec.Struct, frozen=True, array_like=True, tag="want", forbid_unknown_fields=True):
    """Asks for the newest adverts of these nodes."""

    ids: Annotated[tuple[RawId, ...], Meta(max_length=MAX_WANTED)]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag="probe", forbid_unknown_fields=True):
    """Asks for an Ack of the same number. `facts` is the sender's load, None where it serves nothing."""

    number: Number
    facts: Facts | None


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack", forbid_unknown_fields=True):
    """The answer to the Probe of that number."""

    number: Number
    facts: Facts | None


class ProbeFor(msgspec.Struct, frozen=True, array_like=True, tag="probe-for", forbid_unknown_fields=True):
    """Asks a neighbour to try `node`, which does not answer the sender."""

    node: RawId
    number: Number


class AckFor(msgspec.Struct, frozen=True, array_like=True, tag="ack-for", forbid_unknown_fields=True):
    """`node` spoke to the sender after the ProbeFor of that number came."""

    node: RawId
    number: Number


class Suspect(msgspec.Struct, frozen=True, array_like=True, tag="suspect", forbid_unknown_fields=True):
    """`node` is silent towards the sender, which knows its advert of that order; (0, 0) for none."""

    node: RawId
    incarnation: Counter
    sequence: Counter


class Proof(msgspec.Struct, frozen=True, array_like=True, tag="proof", forbid_unknown_fields=True):
    """Two adverts that one node signed under one order."""

    first: SignedAdvert
    second: SignedAdvert


Message = Adverts | Digest | Versions | Want | Probe | Ack | ProbeFor | AckFor | Suspect | Proof


_KINDS: dict[bytes, type[Message]] = {str(kind.__struct_config__.tag).encode(): kind for kind in get_args(Message)}
_LONGEST_TAG = max(map(len, _KINDS))


def decode_message(data: bytes) -> Message:
    """Read one frame. Raises DecodeError."""
    # A frame is an array that starts with its tag, behind two heads of one byte. Told the kind, msgspec need not sort
    # out the union each time, which costs more than all the rest of a small frame.
    length = data[1] - _TEXT if len(data) > 1 else 0
    kind = _KINDS.get(data[2 : 2 + length]) if 0 < length <= _LONGEST_TAG else None
    if kind is None:
        raise DecodeError("a frame of no known kind")
    return codec.decode(data, kind)


def encode_message(message: Message) -> bytes:
    """One frame. The caller keeps lists within `advert_frames` and `version_frames`."""
    return codec.encode(message)


def advert_frames(items: Iterable[Carried]) -> Iterator[bytes]:
    """The adverts in as few frames as their order allows."""
    batch: list[Carried] = []
    size = _FRAME_HEAD
    for item in items:
        more = len(item.signed.body) + len(item.signed.signature) + _ITEM_HEAD
        if batch and size + more > codec.MAX_BYTES:
            yield encode_message(Adverts(tuple(batch)))
            batch, size = [], _FRAME_HEAD
        batch.append(item)
        size += more
    if batch:
        yield encode_message(Adverts(tuple(batch)))


def version_frames(buckets: Iterable[tuple[int, list[Version]]]) -> Iterator[bytes]:
    """The versions in frames. A bucket too large for one frame is spread over several and named whole in none."""
    whole = bytearray()
    known: list[Version] = []
    for bucket, versions in buckets:
        if len(known) + len(versions) > MAX_LISTED and (known or whole):
            yield encode_message(Versions(bytes(whole), tuple(known)))
            whole, known = bytearray(), []
        if len(versions) > MAX_LISTED:
            for start in range(0, len(versions), MAX_LISTED):
                yield encode_message(Versions(b"", tuple(versions[start : start + MAX_LISTED])))
            continue
        whole.append(bucket)
        known += versions
    if known or whole:
        yield encode_message(Versions(bytes(whole), tuple(known)))
