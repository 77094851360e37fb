"""What a hostile member does to a node: each attack by its name, bounded by count, and the mesh that it is done to.

BREACHES are what no honest member could be mistaken for, NUISANCES what an honest one may do, a little of it. Not for
what must come of them (test_hostile.py). Counterpart: hostile.py, which gives the link.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from meshnode.dispatch import wire
from meshnode.gossip.messages import Adverts, Carried, Want, encode_message
from meshnode.identity import NodeKey, Revocation, Rotation, pack_chain
from meshnode.identity.statements import NOTICE_CONTEXT, Notice
from meshnode.model import codec
from meshnode.model.advert import ADVERT_CONTEXT, Advert, ModelOffer, SignedAdvert, pack
from meshnode.model.ids import NodeId
from meshnode.model.job import Label, Priority
from meshnode.noise.channel import HANDSHAKE
from tests.kit import frames as h2
from tests.kit.frames import frame, request, reset, settings, window
from tests.real.hostile import Attacker, Papers, Piece
from tests.real.kit import PATIENCE_S, Caller, EngineThread, NodeProcess, until

CONFIG = "[mesh]\nmdns = false\nhandshake_timeout_s = 1.0\ncredit_timeout_s = 2.0\n"
HELLO = [{"role": "user", "content": "hello"}]
GOSSIP, NOTICES = ("/meshnode/gossip", "/meshnode/notices")
MANY = 20_000
"""Frames of a flood: a link in order needs about 15 control frames a minute and may have 1,000."""

STREAMS = 1024
WINDOW = 65_535


@dataclass
class Scene:
    """The victim between its two ordinary neighbours, and an answer that streams through it all the while."""

    victim: NodeProcess
    alpha: NodeProcess
    bravo: NodeProcess
    engine: EngineThread
    folder: Path
    standing: Caller
    table: list[str] = field(default_factory=list)
    attackers: int = 0

    def attacker(self) -> Papers:
        """A member that nobody has anything against yet."""
        self.attackers += 1
        return Papers.joined(self.victim, self.folder / f"mallory-{self.attackers}")

    def ask(self) -> None:
        """One request of bravo's, by way of the victim."""
        with self.bravo.openai() as client:
            answer = client.chat.completions.create(model="fake-model", messages=HELLO, max_tokens=2)
        assert answer.choices[0].message.content == "t0 t1 "

    def undisturbed(self) -> None:
        """The other links serve, and the answer under way has not been cut."""
        self.ask()
        self.standing.socket.setblocking(False)
        try:
            while data := self.standing.socket.recv(65_536):
                assert b"error" not in data, data
            raise AssertionError("the answer that was under way has ended")
        except BlockingIOError:
            pass
        finally:
            self.standing.socket.settimeout(PATIENCE_S)

    def said_of(self, papers: Papers) -> str:
        """Why the victim ended the attacker's link, in its words."""
        for line in bytes(self.victim.output).decode().splitlines():
            if papers.id.short in line and '"unlinked"' in line:
                return str(json.loads(line)["reason"])
        return "not ended"


Attack = Callable[[Attacker, Papers, Scene], None]
BREACHES: dict[str, Attack] = {}
NUISANCES: dict[str, Attack] = {}


def breach(attack: Attack) -> Attack:
    """An attack that no honest member could be mistaken for: it costs the link, and the next ones."""
    BREACHES[attack.__name__] = attack
    return attack


def nuisance(attack: Attack) -> Attack:
    """An attack by means that an honest member may use: it is bounded, no more."""
    NUISANCES[attack.__name__] = attack
    return attack


def batches(count: int, one: Callable[[int], bytes], half: int = 0) -> Iterator[Piece]:
    """`count` times a frame or some, a few hundred in a record."""
    for start in range(0, count, 200):
        yield half, b"".join(map(one, range(start, min(count, start + 200))))


def odd(number: int) -> int:
    """The dialler's streams."""
    return 2 * number + 1


def asking(path: str) -> list[tuple[str, str]]:
    """Headers of a request that is not a job."""
    return [(":method", "POST"), (":scheme", "mesh"), (":authority", "mesh"), (":path", path)]


@breach
def unknown_frames(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send(batches(MANY, lambda _: frame(0x7F, 0, 0, b"x" * 16)))


@breach
def header_of_16_megabytes(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, b"\xff\xff\xff" + bytes([h2.DATA, 0]) + bytes(4))])
    attacker.send((0, bytes(60_000)) for _ in range(280))


@breach
def rapid_reset(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send(batches(MANY, lambda n: request(odd(n), asking("/v1/chat/completions"), end=True) + reset(odd(n))))


@breach
def settings_flood(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send(batches(MANY, lambda n: settings(initial_window_size=n, header_table_size=n % 4096)))


@breach
def settings_of_every_name(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Unknown ones are to be ignored; keeping each of 65,536 would cost megabytes."""
    firsts = range(7, 65_000, 2700)
    many = [b"".join(code.to_bytes(2, "big") + bytes(4) for code in range(at, min(at + 2700, 65_536))) for at in firsts]
    attacker.send((0, frame(h2.SETTINGS, 0, 0, values)) for values in many * 50)


@breach
def ping_flood(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send(batches(MANY, lambda n: frame(h2.PING, 0, 0, n.to_bytes(8, "big"))))


@breach
def empty_data(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, request(1, asking(GOSSIP)))])
    attacker.send(batches(MANY, lambda _: frame(h2.DATA, 0, 1)))


@breach
def padding_alone(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, request(1, asking(GOSSIP)))])
    attacker.send(batches(MANY, lambda _: frame(h2.DATA, 0x8, 1, b"\x20" + bytes(32))))


@breach
def window_updates(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, b"".join(request(odd(n), asking("/v1/chat/completions")) for n in range(STREAMS)))])
    attacker.send(batches(10 * MANY, lambda _: window(0, 1)))


@breach
def window_beyond_all_bounds(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, window(0, 2**31 - 1) * 2)])


@breach
def continuations(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send([(0, frame(h2.HEADERS, 0, 1, b"\x82"))])
    attacker.send(batches(MANY, lambda _: frame(h2.CONTINUATION, 0, 1, b"\x40\x01a\x01b")))


@breach
def priorities(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send(batches(MANY, lambda n: frame(h2.PRIORITY, 0, odd(n), bytes(5))))


@breach
def header_bomb(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """RFC 7541: one entry of 4 KB is put into the table, and then named 16,000 times in each block: 64 MB."""
    # A literal with indexing: the name `a`, and a value of 127 + 0x3d + 0x1d * 128 bytes (§5.1).
    entry = b"\x40\x01a\x7f\xbd\x1d" + b"v" * 3900
    attacker.send([(0, frame(h2.HEADERS, h2.END_HEADERS, 1, entry + b"\xbe" * 12_000))])
    attacker.send((0, frame(h2.HEADERS, h2.END_HEADERS, odd(n), b"\xbe" * 16_000)) for n in range(1, 200))


@breach
def records_of_no_kind(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.send_plaintext(b"\x07" + bytes(1000))


@breach
def garbage_after_the_handshake(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    for _ in range(200):
        attacker.send_raw(secrets.token_bytes(60_000))


@breach
def handshakes_without_end(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Inside the link: each costs the victim two Diffie-Hellman operations, if it answers."""
    for _ in range(100):
        attacker.send_plaintext(bytes([HANDSHAKE]) + papers.initiator(attacker.binding).bytes_to_send())


@breach
def giant_gossip(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.stream(1, asking(GOSSIP), [b"\xff\xff\xff\xff" + bytes(60_000)] * 100)


@breach
def nonsense_gossip(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.stream(1, asking(GOSSIP), [framed(b"\xa0" * 1000)] * 100)


@breach
def forged_adverts(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """In the name of a member, which never signed them."""
    alpha = NodeId.parse(scene.alpha.status()["node"]["id"])
    bodies = (pack(Advert(bytes(alpha), papers.membership.mesh.id, 2**40, n, 180, name="alpha")) for n in range(2000))
    attacker.stream(1, asking(GOSSIP), (adverts([SignedAdvert(body, bytes(64))]) for body in bodies))


@breach
def nonsense_notices(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    attacker.stream(1, asking(NOTICES), [b"\xff\xff" + bytes(1000)] * 100)


@nuisance
def invented_members(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Signed by keys made for it, each with the attacker's own chain: nobody let them in."""
    chain = pack_chain(papers.membership.chain)

    def one(number: int) -> bytes:
        key = NodeKey.generate()
        offers = (ModelOffer("fake-model", context=10**6, slots=4096),)
        advert = Advert(key.public, papers.membership.mesh.id, 1, 1, 180, name=f"n{number}", models=offers, chain=chain)
        return adverts([signed(key, advert)])

    attacker.stream(1, asking(GOSSIP), map(one, range(3000)))
    attacker.fence()
    assert scene.victim.status()["mesh"]["nodes"] == 3


@nuisance
def news_without_end(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """A member's own adverts, each as large as may be, ever newer."""
    models = tuple(ModelOffer(f"{'m' * 40}-{n}", context=4096) for n in range(30))
    chain = pack_chain(papers.membership.chain)
    told = (
        Advert(papers.key.public, papers.membership.mesh.id, 1, n, 1, name="mallory", models=models, chain=chain)
        for n in range(3000)
    )
    attacker.stream(1, asking(GOSSIP), (adverts([signed(papers.key, advert)]) for advert in told))


@nuisance
def wishes_without_end(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Asking for every advert again and again."""
    ids = tuple(bytes(NodeId.parse(node.status()["node"]["id"])) for node in (scene.alpha, scene.bravo, scene.victim))
    want = framed(encode_message(Want(ids * 300)))
    attacker.stream(1, asking(GOSSIP), [want] * 200)


@nuisance
def notices_of_nobody(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Well made, and signed by whoever may not."""
    mesh, now = papers.membership.mesh.id, int(time.time())

    def one(number: int) -> bytes:
        out, new = Revocation(mesh, secrets.token_bytes(32), now), Rotation(mesh, number + 1, bytes(32), now)
        body = codec.encode(out if number % 2 else new)
        data = Notice(body, papers.key.sign(NOTICE_CONTEXT, body), papers.membership.chain[:1]).pack()
        return len(data).to_bytes(2, "big") + data

    attacker.stream(1, asking(NOTICES), map(one, range(1000)))


@nuisance
def streams_that_never_end(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """As many as may be open, each with some of its body, and as many again."""
    target = NodeId.parse(scene.victim.status()["node"]["id"])
    some = bytes(60)
    attacker.send(batches(STREAMS, lambda n: request(odd(n), job(papers, target)) + frame(h2.DATA, 0, odd(n), some)))
    attacker.fence()
    attacker.send(batches(500, lambda n: request(odd(STREAMS + n), job(papers, target))))


@nuisance
def answers_nobody_takes(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Jobs for alpha by way of the victim, and not one byte of credit for their answers."""
    before = scene.engine.cuts()
    introduce(attacker, papers, scene)
    attacker.send([(0, settings(initial_window_size=0))])
    send_jobs(attacker, papers, scene, 24)
    until(lambda: scene.engine.cuts() >= before + 24, "what nobody takes is cut at its engine")


@nuisance
def answers_nobody_reads(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """The same with all the credit there is, by one that stops reading its socket."""
    introduce(attacker, papers, scene)
    attacker.send([(0, settings(initial_window_size=2**31 - 1) + window(0, 2**31 - 1 - WINDOW))])
    send_jobs(attacker, papers, scene, 24)


@nuisance
def bodies_that_never_end(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Each stream's whole window, on all streams: 64 MB."""
    target = NodeId.parse(scene.victim.status()["node"]["id"])
    attacker.send(batches(STREAMS, lambda n: request(odd(n), job(papers, target))))
    for n in range(STREAMS):
        chunks = b"".join(frame(h2.DATA, 0, odd(n), bytes(size)) for size in (16_384, 16_384, 16_384, 16_383))
        attacker.send([(0, chunks)])


DEAF = {"answers_nobody_reads"}


def framed(message: bytes) -> bytes:
    """As gossip's messages travel."""
    return len(message).to_bytes(4, "big") + message


def adverts(items: list[SignedAdvert]) -> bytes:
    """One gossip message."""
    return framed(encode_message(Adverts(tuple(Carried(item, 180) for item in items))))


def signed(key: NodeKey, advert: Advert) -> SignedAdvert:
    """As its node says it."""
    body = pack(advert)
    return SignedAdvert(body, key.sign(ADVERT_CONTEXT, body))


def introduce(attacker: Attacker, papers: Papers, scene: Scene) -> None:
    """Become known to the mesh, as a member that may ask."""
    chain = pack_chain(papers.membership.chain)
    advert = Advert(papers.key.public, papers.membership.mesh.id, 1, 1, 60, name="mallory", chain=chain)
    attacker.stream(1, asking(GOSSIP), [adverts([signed(papers.key, advert)])])
    for node in (scene.victim, scene.alpha):
        until(lambda node=node: papers.id.text in {peer["id"] for peer in node.status()["peers"]}, "it is known")


def job(papers: Papers, target: NodeId) -> list[tuple[str, str]]:
    """The head of a job of the attacker's own."""
    envelope = wire.Envelope(
        id=secrets.token_hex(8), route="/v1/chat/completions", origin=papers.id, target=target, attempt=1,
        remaining_s=60.0, hops_left=4, path=(), label=Label.INTERNAL, priority=Priority.NORMAL, owner="",
        traceparent="",
    )  # fmt: skip
    return wire.write(envelope, papers.id)


def send_jobs(attacker: Attacker, papers: Papers, scene: Scene, count: int) -> None:
    """Jobs with large answers, all of which have reached the engine when this returns."""
    target = NodeId.parse(scene.alpha.status()["node"]["id"])
    body = json.dumps({"model": "fake-model", "messages": HELLO, "stream": True, "fake": {"tokens": 20_000}}).encode()
    known = len(scene.engine.fake.records)
    for number in range(count):
        head = request(odd(100 + number), job(papers, target))
        attacker.send([(0, head + frame(h2.DATA, h2.END_STREAM, odd(100 + number), body))])
    scene.engine.started(known + count)
