"""The wire's four messages, each in one frame of at most 64 KiB of canonical CBOR, and how lists are cut to fit.

A round of anti-entropy: Digest -> Versions of the buckets that differ -> Want what is newer there, Adverts of what is
newer here -> Adverts. Not for what an advert says (model.advert) nor for when to send (machine.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, cast

import msgspec
from msgspec import Meta

from meshnode.gossip.digest import DIGEST_BYTES
from meshnode.model import codec
from meshnode.model.advert import Counter, RawId, SignedAdvert

MAX_WANTED = 1024
MAX_LISTED = 1200
_FRAME_HEAD = 32
_ITEM_HEAD = 16
"""Upper bounds of the CBOR heads around a list and around one carried advert, in bytes."""


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


Message = Adverts | Digest | Versions | Want


def decode_message(data: bytes) -> Message:
    """Read one frame. Raises DecodeError."""
    return codec.decode(data, cast("type[Message]", Message))


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
