"""Who signs two adverts of one order: proved, told to all, put aside for an hour. Nobody by a forgery or a replay."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError, ProtocolViolation
from meshnode.gossip import Changed, Command, Convicted, Describe, NeighbourUp, Received, Send, Violation
from meshnode.gossip.messages import Proof, Version, Versions, Want, decode_message, encode_message
from meshnode.gossip.proofs import MAX_SERVED, Proofs, contradiction, proof_of
from meshnode.model.advert import Advert, SignedAdvert
from meshnode.model.ids import NodeId
from tests.gossip.test_machine import ME, STRANGER, A, B, C, advert, carrying, changed, faults, news, sent, started
from tests.gossip.world import MESH, describe, machine, node_id, signed

X, Y = advert(name="x"), advert(name="y")
PROOF = proof_of(signed(X), signed(Y))
FRAME = encode_message(PROOF)


def convicted(commands: list[Command]) -> list[NodeId]:
    return [c.node for c in commands if isinstance(c, Convicted)]


def proofs(commands: list[Command]) -> list[NodeId]:
    return [to for to, message in sent(commands) if isinstance(message, Proof)]


def test_two_adverts_of_one_order_convict_their_node_and_everybody_is_told() -> None:
    made = started()
    made.handle(Received(A, carrying(X)), 1.0)
    commands = made.handle(Received(B, carrying(Y)), 2.0)
    assert Convicted(STRANGER, 3602.0) in commands
    assert proofs(commands) == [A, C]
    assert {Send(A, FRAME), Send(C, FRAME)} <= set(commands)
    assert changed(commands) == {STRANGER}
    assert STRANGER not in made.adverts(2.0)


def test_a_proof_from_a_neighbour_convicts_and_is_passed_on_once() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=7))), 1.0)
    commands = made.handle(Received(A, FRAME), 2.0)
    assert convicted(commands) == [STRANGER]
    assert proofs(commands) == [B, C]
    assert changed(commands) == {STRANGER}
    for frm in (A, B, C):
        again = made.handle(Received(frm, FRAME), 3.0)
        assert (proofs(again), convicted(again), changed(again)) == ([], [], set())


def test_who_is_unknown_is_put_aside_all_the_same() -> None:
    made = started()
    assert convicted(made.handle(Received(A, FRAME), 1.0)) == [STRANGER]
    commands = made.handle(Received(A, carrying(advert(sequence=2))), 2.0)
    assert STRANGER not in made.adverts(2.0)
    assert news(commands) == []


def test_it_is_believed_again_when_its_time_is_over_and_the_same_proof_convicts_it_no_more() -> None:
    made = started()
    made.handle(Received(A, FRAME), 1.0)
    made.handle(Received(A, carrying(advert(sequence=2))), 3600.0)
    assert STRANGER not in made.adverts(3600.0)
    assert changed(made.handle(Received(A, carrying(advert(sequence=3))), 3601.0)) == {STRANGER}
    assert convicted(made.handle(Received(B, FRAME), 3602.0)) == []
    assert STRANGER in made.adverts(3602.0)
    newer = proof_of(signed(advert(sequence=4, name="x")), signed(advert(sequence=4, name="y")))
    assert convicted(made.handle(Received(B, encode_message(newer)), 3603.0)) == [STRANGER]


def forged(first: SignedAdvert, second: SignedAdvert) -> bytes:
    return encode_message(proof_of(first, second))


@pytest.mark.parametrize(
    "frame",
    [
        forged(signed(X), SignedAdvert(signed(Y).body, bytes(64))),
        forged(SignedAdvert(signed(X).body, bytes(64)), signed(Y)),
        forged(signed(X), signed(X)),
        forged(signed(X), signed(advert(sequence=2, name="y"))),
        forged(signed(X), signed(replace(Y, id=bytes(A)))),
        forged(signed(replace(X, mesh=bytes(32))), signed(replace(Y, mesh=bytes(32)))),
        forged(signed(X), signed(replace(Y, mesh=bytes(32)))),
        forged(SignedAdvert(b"\x80", bytes(64)), signed(Y)),
        encode_message(Proof(PROOF.second, PROOF.first)),
    ],
)
def test_a_proof_that_proves_nothing_is_a_fault_of_its_bringer(frame: bytes) -> None:
    made = started()
    made.handle(Received(B, carrying(X)), 0.5)
    commands = made.handle(Received(A, frame), 1.0)
    assert faults(commands) == [A]
    assert [c for c in commands if not isinstance(c, Violation)] == []
    assert STRANGER in made.adverts(1.0)


def test_of_who_is_no_member_here_nothing_is_thought() -> None:
    made = started()
    proof = proof_of(signed(advert(name="stranger")), signed(Y))
    assert made.handle(Received(A, encode_message(proof)), 1.0) == []


def test_who_still_believes_the_convicted_is_shown_the_proof_and_not_asked_for_it() -> None:
    made = started()
    made.handle(Received(A, FRAME), 1.0)
    assert proofs(made.handle(Received(B, carrying(advert(sequence=5))), 2.0)) == [B]
    listed = encode_message(Versions(b"", (Version(STRANGER, 1, 9), Version(node_id(77), 1, 1))))
    commands = made.handle(Received(C, listed), 3.0)
    assert proofs(commands) == [C]
    assert [m.ids for _, m in sent(commands) if isinstance(m, Want)] == [(node_id(77),)]
    shown = sum(len(proofs(made.handle(Received(B, carrying(advert(sequence=6 + n))), 4.0))) for n in range(100))
    assert shown <= 8


def test_the_convicted_itself_is_not_argued_with() -> None:
    made = started(None, A, STRANGER)
    made.handle(Received(A, FRAME), 1.0)
    assert proofs(made.handle(Received(STRANGER, carrying(advert(sequence=5))), 2.0)) == []


def test_a_node_convicted_itself_is_told_and_goes_on() -> None:
    made = started()
    mine = [Advert(ME, MESH, 1, 90, 180, name=name) for name in ("me", "clone")]
    commands = made.handle(Received(A, forged(*map(signed, mine))), 1.0)
    assert convicted(commands) == [ME]
    assert ME in made.adverts(1.0)
    assert not any(isinstance(c, Changed) for c in commands)


def test_who_is_counted_above_whatever_it_says_proves_that_its_key_is_used_twice() -> None:
    made, now = started(), 1.0
    for _ in range(4):
        clone = Advert(ME, MESH, made.incarnation + 1, 1, 180, name="clone")
        assert convicted(made.handle(Received(A, carrying(clone)), now)) == [], "so may lives be that it forgot"
        assert made.incarnation == clone.incarnation + 1
        now += 1.0
    clone = Advert(ME, MESH, made.incarnation + 1, 1, 180, name="clone")
    commands = made.handle(Received(A, carrying(clone)), now)
    assert convicted(commands) == [ME]
    assert proofs(commands) == [A, B, C], "also who brought it: it has one half"
    [frame] = {c.data for c in commands if isinstance(c, Send) and isinstance(decode_message(c.data), Proof)}
    elsewhere = machine(STRANGER)
    elsewhere.handle(Describe(describe(STRANGER)), 0.0)
    elsewhere.handle(NeighbourUp(A), 0.0)
    assert convicted(elsewhere.handle(Received(A, frame), 1.0)) == [ME]
    again = replace(clone, incarnation=clone.incarnation + 9)
    assert proofs(made.handle(Received(A, carrying(again)), now + 1.0)) == []
    assert made.incarnation < clone.incarnation, "while it is put aside it argues no more"


def test_a_new_neighbour_that_lists_the_convicted_learns_of_it_by_showing_it() -> None:
    made = started()
    made.handle(Received(A, FRAME), 1.0)
    made.handle(NeighbourUp(node_id(9)), 2.0)
    assert proofs(made.handle(Received(node_id(9), carrying(advert(), advert(node_id(80)))), 2.1)) == [node_id(9)]
    assert node_id(80) in made.adverts(2.1)


def test_checking_proofs_is_paid_for_like_checking_adverts() -> None:
    made = started(GossipSection(verifications_per_s=2, anti_entropy_s=2.0), A)
    frames = [
        forged(signed(advert(node_id(100 + n), name="x")), signed(advert(node_id(100 + n), name="y"))) for n in range(9)
    ]
    assert sum(len(convicted(made.handle(Received(A, frame), 1.0))) for frame in frames) == 2


def test_memory_is_bounded_whoever_cheats() -> None:
    held = Proofs(GossipSection(convicts=3))
    nodes = [node_id(n) for n in range(6000)]
    for n, node in enumerate(nodes):
        held.convict(node, (1, n), PROOF, 1.0)
    assert [node for node in nodes if held.held(node, 2.0)] == nodes[-3:]
    assert len(held._served) == MAX_SERVED
    assert held.stale(nodes[-1], (1, 5999))
    assert not held.stale(nodes[-1], (1, 6000))


def test_a_contradiction_is_of_one_node_one_order_one_mesh() -> None:
    assert contradiction(PROOF, MESH) in ((X, Y), (Y, X))
    with pytest.raises(ProtocolViolation):
        contradiction(PROOF, bytes(32))
    with pytest.raises(DecodeError):
        contradiction(Proof(SignedAdvert(b"", bytes(64)), PROOF.second), MESH)
    assert proof_of(signed(X), signed(Y)) == proof_of(signed(Y), signed(X)), "whoever finds it"
    assert decode_message(FRAME) == PROOF
