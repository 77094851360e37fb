"""Adverts of nodes that are no members in this node's eyes: not kept, not spread, not held against who sent them."""

from __future__ import annotations

from msgspec.structs import replace

from meshnode.gossip import (
    Changed,
    Command,
    Describe,
    Forget,
    Leave,
    NeighbourUp,
    Received,
    Reconsider,
    Send,
    Tick,
    Verdict,
)
from meshnode.gossip.intake import MAX_UNWANTED
from meshnode.gossip.messages import Version, Versions, Want, decode_message, encode_message
from meshnode.model.advert import unpack
from tests.gossip.test_machine import ME, STRANGER, A, B, advert, carrying, changed, faults, news, started
from tests.gossip.world import describe, machine, node_id


def versions(node: bytes, sequence: int) -> bytes:
    return encode_message(Versions(b"", (Version(node, 1, sequence),)))


def wanted(commands: list[Command]) -> list[bytes]:
    found = [decode_message(c.data) for c in commands if isinstance(c, Send)]
    return [id_ for message in found if isinstance(message, Want) for id_ in message.ids]


def test_an_unwanted_advert_is_neither_kept_nor_spread_nor_a_fault_of_its_bringer() -> None:
    made = started()
    commands = made.handle(Received(A, carrying(advert(name="stranger"))), 1.0)
    assert (news(commands), changed(commands), faults(commands)) == ([], set(), [])
    assert STRANGER not in made.adverts(1.0)


def test_the_same_is_neither_judged_nor_asked_for_again_and_something_newer_is() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(name="stranger", sequence=3))), 1.0)
    judged: list[int] = []
    real = made._intake.judge
    made._intake.judge = lambda a, body, signature: judged.append(a.sequence) or real(a, body, signature)
    for sequence in (1, 2, 3):
        made.handle(Received(B, carrying(advert(name="stranger", sequence=sequence))), 2.0)
        assert wanted(made.handle(Received(B, versions(STRANGER, sequence)), 2.0)) == []
    assert judged == []
    assert wanted(made.handle(Received(B, versions(STRANGER, 4)), 2.0)) == [STRANGER]
    assert changed(made.handle(Received(B, carrying(advert(sequence=4))), 3.0)) == {STRANGER}


def test_a_second_look_is_had_once_others_are_believed() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(name="stranger"))), 1.0)
    made._intake.judge = lambda *_: Verdict.GOOD
    assert changed(made.handle(Received(A, carrying(advert(name="stranger"))), 2.0)) == set()
    made.handle(Reconsider(), 3.0)
    assert changed(made.handle(Received(A, carrying(advert(name="stranger"))), 4.0)) == {STRANGER}


def test_a_forgotten_node_stays_forgotten_until_it_says_something_new() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=5))), 1.0)
    assert made.handle(Forget(STRANGER), 2.0)[-1] == Changed(frozenset({STRANGER}))
    assert STRANGER not in made.adverts(2.0)
    assert changed(made.handle(Received(B, carrying(advert(sequence=5))), 3.0)) == set()
    assert wanted(made.handle(Received(B, versions(STRANGER, 5)), 3.0)) == []
    assert changed(made.handle(Received(B, carrying(advert(sequence=6))), 4.0)) == {STRANGER}


def test_forgetting_oneself_or_a_stranger_changes_nothing() -> None:
    made = started()
    before = made.adverts(1.0)
    assert made.handle(Forget(ME), 1.0) == []
    assert made.handle(Forget(node_id(99)), 1.0) == []
    assert made.adverts(1.0) == before


def test_however_many_strangers_are_invented_only_so_many_are_remembered() -> None:
    made = started()
    for n in range(MAX_UNWANTED + 50):
        made.handle(Received(A, carrying(advert(node_id(1000 + n), name="stranger"))), 1.0 + n)
    assert len(made._intake.unwanted) == MAX_UNWANTED
    assert len(made.adverts(1.0)) == 1


def test_an_own_advert_shows_how_far_this_node_had_counted_even_if_it_is_a_stranger_now() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(ME, sequence=77, name="stranger"))), 1.0)
    made.handle(Tick(), 2.0)
    assert made.adverts(2.0)[ME].order > (1, 77)


def test_a_tombstone_carries_what_made_its_node_a_member() -> None:
    made = machine(ME)
    made.handle(Describe(replace(describe(ME, "me"), chain=b"papers")), 0.0)
    made.handle(NeighbourUp(A), 0.0)
    [(_, said)] = news(made.handle(Leave(), 1.0))
    [tombstone] = [unpack(item.signed.body) for item in said.items]
    assert (tombstone.gone, tombstone.chain, tombstone.name) == (True, b"papers", "")
