"""Nodes that break the rules on purpose, with the frames they would send. Their machines are the ordinary ones.

Liars and black holes are elsewhere: a liar lies in what it says of itself (world.py), a black hole in what it does with
jobs (jobs.py).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from meshnode.gossip.messages import Adverts, Carried, encode_message
from meshnode.model.advert import Advert, SignedAdvert, pack
from tests.simulation.faults import Fault
from tests.simulation.stand_ins import MESH, STRANGER, node_id, signature

if TYPE_CHECKING:
    from tests.simulation.node import SimNode
    from tests.simulation.world import World

FLOOD_PER_S = 50
"""Frames to each neighbour; honest nodes send a few a second."""

STRANGERS, FORGED, GARBAGE, OWN = range(4)
"""What floods are made of."""


def begin(world: World, fault: Fault) -> None:
    """Let the nodes of `fault` begin."""
    for number in fault.nodes:
        node = world.nodes[number]
        if not node.up:
            continue
        match fault.kind:
            case "equivocate":
                _equivocate(world, node)
            case "clone":
                _clone(world, node, int(fault.value))
            case "flood":
                _flood(world, node, int(fault.value), world.loop.now + (fault.for_s or 10.0))
            case "replay":
                _replay(world, node)


def _frame(advert: Advert, left_s: int = 180, *, forged: bool = False) -> bytes:
    body = pack(advert)
    signed = SignedAdvert(body, bytes(64) if forged else signature(advert.id, body))
    return encode_message(Adverts((Carried(signed, left_s),)))


def _tell(world: World, node: SimNode, data: bytes) -> None:
    for wire in list(node.links.values()):
        world.network.gossip(wire, node, data)


def _equivocate(world: World, node: SimNode) -> None:
    """Two adverts of one order, each to one half of the neighbours."""
    said = replace(node.told, incarnation=node.gossip.incarnation, sequence=1000, lifetime_s=180)
    for place, wire in enumerate(node.links.values()):
        world.network.gossip(wire, node, _frame(replace(said, name=f"face {place % 2}")))


def _clone(world: World, node: SimNode, ahead: int) -> None:
    """A second machine with a copy of the key, which starts with the same counter, or with one so far ahead."""
    world.outcast.add(node.id)
    peers = tuple(world.rng.sample(sorted(world.network.by_address), min(3, len(world.nodes))))
    twin = world.add(world.number(node.id), peers)
    twin.honest = False
    twin.incarnation = node.incarnation + ahead - 1
    world.twins.append((node, twin))
    world.boot(twin)


def _flood(world: World, node: SimNode, what: int, until: float) -> None:
    if world.loop.now >= until or not node.up:
        return
    rng = random.Random(f"{world.seed} {world.loop.now}")
    match what:
        case 0:
            stranger = Advert(node_id(10**6 + rng.randrange(10**6)), MESH, 1, 1, 180, name=STRANGER)
            data = _frame(stranger)
        case 1:
            victim = rng.choice(world.nodes)
            data = _frame(replace(world.described(victim), incarnation=10**6, sequence=1, lifetime_s=180), forged=True)
        case 2:
            data = rng.randbytes(rng.randrange(3, 200))
        case _:
            sequence = int(world.loop.now * 1000)
            said = replace(node.told, incarnation=node.gossip.incarnation, sequence=sequence, lifetime_s=180)
            data = _frame(said)
    _tell(world, node, data)
    node.after(1.0 / FLOOD_PER_S, _flood, world, node, what, until)


def _replay(world: World, node: SimNode) -> None:
    """What it knows now comes again later, as if it were new."""
    known = [entry.signed for entry in node.gossip._table.spread()]
    frames = [encode_message(Adverts((Carried(signed, 86_400),))) for signed in known[:64]]
    for seconds in (5.0, 15.0, 25.0):
        for frame in frames:
            node.after(seconds, _tell, world, node, frame)
