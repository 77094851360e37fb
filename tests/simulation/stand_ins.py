"""What stands in for keys, and what is shared between nodes so that thousands fit into one process.

Signatures are keyed hashes, handed to the machines as `judge` and `sign`. Decoding and encoding are remembered by their
argument: they are pure functions and their results immutable, so no machine can tell. Everything else is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from meshnode.gossip import detector, intake, machine, messages, own, proofs, rounds
from meshnode.gossip.events import Verdict
from meshnode.model.advert import Advert
from meshnode.model.ids import NodeId
from tests.simulation.common_tables import CommonTable

T = TypeVar("T")

MESH = bytes([7]) * 32

STRANGER = "stranger"
"""Whoever bears this name is no member."""

_MOST = 200_000


def node_id(number: int) -> NodeId:
    """The identity of the `number`th key."""
    return NodeId(hashlib.sha256(b"node %d" % number).digest())


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """A pure function that is computed once for equal arguments. What raises is not remembered."""
    known: dict[Any, T] = {}

    def recall(*args: Any) -> T:
        found = known.get(args)
        if found is None:
            if len(known) >= _MOST:
                known.clear()
            found = known[args] = function(*args)
        return found

    return recall


@remembered
def signature(node: bytes, body: bytes) -> bytes:
    """Stands in for Ed25519: 64 bytes that belong to one node and one body."""
    return hashlib.blake2b(body, key=bytes(node)).digest()


def judge(advert: Advert, body: bytes, signed: bytes) -> Verdict:
    """What identity would say."""
    if signature(advert.id, body) != signed:
        return Verdict.FORGED
    return Verdict.UNWANTED if advert.name == STRANGER else Verdict.GOOD


@contextmanager
def shared(*, tables: bool = False) -> Iterator[None]:
    """While this lasts, equal frames are read and written once for all nodes. `tables`: what all nodes know can be
    kept once, too."""
    encode, ids, unpack = remembered(messages.encode_message), remembered(NodeId), remembered(intake.unpack)
    with (
        mock.patch.object(machine, "Table", CommonTable if tables else machine.Table),
        mock.patch.object(machine, "decode_message", remembered(messages.decode_message)),
        mock.patch.object(intake, "unpack", unpack),
        mock.patch.object(proofs, "unpack", unpack),
        mock.patch.object(own, "fit", remembered(own.fit)),
        mock.patch.object(rounds, "encode_message", encode),
        mock.patch.object(messages, "encode_message", encode),
        mock.patch.object(detector, "encode_message", encode),
        mock.patch.object(Advert, "node", property(lambda advert: ids(advert.id))),
    ):
        yield
