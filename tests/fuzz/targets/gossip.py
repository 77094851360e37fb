"""Gossip: any frame of any neighbour changes only what its signers may say, and costs a bounded answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError
from meshnode.gossip import (
    Command,
    Describe,
    Event,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Send,
    Tick,
    Verdict,
    Violation,
)
from meshnode.gossip.digest import DIGEST_BYTES
from meshnode.gossip.messages import (
    Adverts,
    Carried,
    Digest,
    Message,
    Version,
    Versions,
    Want,
    decode_message,
    encode_message,
)
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.codec import MAX_BYTES
from meshnode.model.ids import NodeId
from tests.fuzz.kit import Draw, mutate
from tests.gossip.world import MESH, describe, fake_judge, machine, node_id, signed

SECTION = GossipSection(nodes=4)
IDS = [node_id(number) for number in range(8)]
ME = IDS[0]
NEIGHBOURS = IDS[1:3]
EVENTS = 24
ANSWER_BYTES = 4 * MAX_BYTES
"""To one frame: the whole of so small a table to each neighbour is less."""


def one_input(data: bytes) -> None:
    draw = Draw(data)
    if draw.flag():
        _read(draw.rest())
        return
    world = _World()
    for _ in range(EVENTS):
        if not draw.left:
            break
        world.step(draw)


def _read(frame: bytes) -> None:
    try:
        message = decode_message(frame)
    except DecodeError:
        return
    again = encode_message(message)
    assert decode_message(again) == message
    assert len(again) <= len(frame)


@dataclass
class _World:
    """One machine, what has been signed for it, and the clock."""

    now: float = 0.0
    up: set[NodeId] = field(default_factory=set)
    left: bool = False
    good: dict[NodeId, set[Advert]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = machine(ME, SECTION)
        self.handle(Describe(describe(ME, "me")))
        for node in NEIGHBOURS:
            self.up.add(node)
            self.handle(NeighbourUp(node))

    def step(self, draw: Draw) -> None:
        node = NEIGHBOURS[draw.number(2)]
        match draw.number(12):
            case 0:
                self.now += draw.number(2**10)
                self.handle(Tick())
            case 1:
                self.up.discard(node)
                self.handle(NeighbourDown(node))
            case 2:
                self.up.add(node)
                self.handle(NeighbourUp(node))
            case 3:
                self.handle(Describe(describe(ME, draw.some(4).hex())))
            case 4 if draw.number(16) == 0:
                self.left = True
                self.handle(Leave())
            case 5:
                self.handle(Received(node, draw.some(300)))
            case 6:
                self.handle(Received(node, mutate(encode_message(self.message(draw)), Draw(draw.some(12)))))
            case _:
                self.handle(Received(node, encode_message(self.message(draw))))

    def handle(self, event: Event) -> None:
        commands = self.machine.handle(event, self.now)
        sent = 0
        for command in commands:
            self.check(command, event)
            sent += len(command.data) if isinstance(command, Send) else 0
        assert sent <= ANSWER_BYTES, "an answer without bound"
        assert (wakeup := self.machine.next_wakeup()) is None or wakeup > self.now - 1e-6 or isinstance(event, Describe)
        living = self.machine.adverts(self.now)
        assert len(living) <= SECTION.nodes + 1
        for node, advert in living.items():
            assert node == ME or advert in self.good.get(node, ()), "an advert that its node did not sign"

    def check(self, command: Command, event: Event) -> None:
        match command:
            case Send(to, data):
                assert to in self.up, "sent to nobody"
                assert len(data) <= MAX_BYTES
                decode_message(data)
            case Violation(frm, _):
                assert isinstance(event, Received) and event.frm == frm, "an innocent accused"

    def message(self, draw: Draw) -> Message:
        match draw.number(6):
            case 0:
                return Digest(draw.some(40).ljust(DIGEST_BYTES, b"\0")[:DIGEST_BYTES])
            case 1:
                known = [Version(IDS[draw.number(8)], draw.number(4), draw.number(4)) for _ in range(draw.number(5))]
                return Versions(draw.some(8), tuple(known))
            case 2:
                return Want(tuple(IDS[draw.number(8)] for _ in range(draw.number(9))))
            case _:
                return Adverts(tuple(self.carried(draw) for _ in range(1 + draw.number(4))))

    def carried(self, draw: Draw) -> Carried:
        node = IDS[draw.number(8)]
        lies = draw.number(256)
        advert = Advert(
            node,
            MESH if lies != 1 else bytes(32),
            1 + draw.number(3),
            draw.number(4),
            1 + draw.number(300),
            name=("", "a", "stranger")[draw.number(3)],
            gone=draw.number(8) == 0,
        )
        made = signed(advert)
        if lies == 2:
            made = SignedAdvert(made.body, bytes(64))
        elif fake_judge(advert, made.body, made.signature) is Verdict.GOOD:
            self.good.setdefault(node, set()).add(advert)
        return Carried(made, draw.number(400))


def seeds() -> dict[str, bytes]:
    """Each message raw, and a conversation."""
    item = Carried(signed(Advert(IDS[3], MESH, 1, 1, 180, name="three")), 180)
    return {
        "adverts": b"\x01" + encode_message(Adverts((item,))),
        "digest": b"\x01" + encode_message(Digest(bytes(DIGEST_BYTES)))[:40],
        "versions": b"\x01" + encode_message(Versions(b"\x00\x01", (Version(IDS[3], 1, 1),))),
        "want": b"\x01" + encode_message(Want((IDS[3], IDS[4]))),
        "news": b"\x00" + b"\x00\x07\x03\x00\x03\x00\x00\x01\x01\x00\x80\x01\x01\x00\xb4",
        "forged": b"\x00" + b"\x01\x07\x03\x00\x04\x02\x00\x01\x01\x00\x80\x01\x01\x00\xb4",
        "rounds": b"\x00"
        + b"\x00\x07\x00\x05abcde"
        + b"\x01\x07\x01\x02\x03\x01\x01\x02ab"
        + b"\x00\x07\x02\x02\x03\x00",
        "time": b"\x00"
        + b"\x00\x00\x00\xc8"
        + b"\x01\x01"
        + b"\x01\x02"
        + b"\x00\x03\x02xy"
        + b"\x00\x06\x02\x01\x03\x04",
    }
