"""What a node says of itself to the mesh, and the signed bytes it travels as.

The wire form is canonical CBOR with short keys; every number is an integer in the unit its name ends with, so that
the bytes have one spelling. Signed bytes are stored and forwarded as they came. Not for verifying (gossip is handed
that) nor for ordering (gossip). protocol.md §5.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from meshnode.errors import DecodeError
from meshnode.model import codec
from meshnode.model.ids import NodeId

MAX_ADVERT_BYTES = 4096

MAX_CHAIN_BYTES = 1200
"""Two certificates of the largest size, and their signatures."""

Text = Annotated[str, Meta(max_length=128)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
RawId = Annotated[bytes, Meta(min_length=32, max_length=32)]


class ModelOffer(msgspec.Struct, frozen=True, omit_defaults=True, rename={"quant": "q", "context": "c"}):
    """One model that a node serves now or can load.

    `down` says that its engine has stopped answering: the model exists, nobody can ask it now. `context` is the number
    of tokens really served per request; `slots` how many requests run at once; `features`
    are words of `meshnode.model.job.FEATURES`; `digest` is the SHA-256 of the weights where known. `prefill_ms` and
    `decode_us` are what the node measured of its engine, 0 where it did not yet: milliseconds to the first token by
    unit of prompt (`meshnode.routing.measure.units_of`), microseconds by token after it.
    """

    name: Text
    context: Count = 0
    slots: Annotated[int, Meta(ge=0, le=4096)] = 1
    loaded: bool = True
    down: bool = False
    family: Text = ""
    quant: Text = ""
    digest: Annotated[bytes, Meta(max_length=32)] = b""
    dialects: Annotated[tuple[Text, ...], Meta(max_length=8)] = ("openai",)
    features: Annotated[tuple[Text, ...], Meta(max_length=16)] = ("chat",)
    prefill_ms: Count = 0
    decode_us: Annotated[int, Meta(ge=0, le=60_000_000)] = 0


class Neighbour(msgspec.Struct, frozen=True, array_like=True):
    """A node linked to the advertiser, with the link's round trip in milliseconds, rounded up to a class."""

    id: RawId
    rtt_ms: Annotated[int, Meta(ge=0, le=60_000)]


class Hardware(msgspec.Struct, frozen=True, omit_defaults=True):
    """The machine as far as choosing needs it. Bytes."""

    gpu: Text = ""
    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    vram_bytes: Counter = 0
    memory_bytes: Counter = 0


class Advert(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's whole description of itself.

    Order of two adverts of one node is (incarnation, sequence). `lifetime_s` counts from receipt on the receiver's
    monotonic clock. `host` is an opaque tag of the machine: loopback addresses are dialled only where it is equal.
    `owner_only`: it serves requests of its owner alone; `paused`: nobody's now.
    `gone` marks a tombstone. `chain` is what makes the node a member, as identity packs it.
    """

    id: RawId
    mesh: RawId
    incarnation: Counter
    sequence: Counter
    lifetime_s: Annotated[int, Meta(ge=1, le=86_400)]
    name: Text = ""
    version: Text = ""
    host: Annotated[bytes, Meta(max_length=16)] = b""
    addresses: Annotated[tuple[Text, ...], Meta(max_length=16)] = ()
    models: Annotated[tuple[ModelOffer, ...], Meta(max_length=64)] = ()
    neighbours: Annotated[tuple[Neighbour, ...], Meta(max_length=64)] = ()
    hardware: Hardware = Hardware()
    owner: Text = ""
    posture: Text = "claimed"
    price_micro_per_mtok: Counter = 0
    watts: Count = 0
    owner_only: bool = False
    relay: bool = True
    draining: bool = False
    paused: bool = False
    gone: bool = False
    chain: Annotated[bytes, Meta(max_length=MAX_CHAIN_BYTES)] = b""

    @property
    def node(self) -> NodeId:
        """The advertiser."""
        return NodeId(self.id)

    @property
    def order(self) -> tuple[int, int]:
        """Larger is newer."""
        return (self.incarnation, self.sequence)


class SignedAdvert(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of an advert as signed, and the Ed25519 signature over `ADVERT_CONTEXT + body`."""

    body: Annotated[bytes, Meta(max_length=MAX_ADVERT_BYTES)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


ADVERT_CONTEXT = b"meshnode advert 1\x00"
"""Domain separation: a signature over an advert is a signature over nothing else."""


def pack(advert: Advert) -> bytes:
    """The canonical bytes to sign. Raises DecodeError when the advert is larger than the mesh accepts."""
    body = codec.encode(advert)
    if len(body) > MAX_ADVERT_BYTES:
        raise DecodeError(f"advert of {len(body)} bytes, at most {MAX_ADVERT_BYTES} travel")
    return body


def unpack(body: bytes) -> Advert:
    """Read an advert's bytes. Raises DecodeError. The signature is the caller's to check."""
    return codec.decode(body, Advert, limit=MAX_ADVERT_BYTES)
