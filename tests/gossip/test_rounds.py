"""The table on a new link, and rounds of anti-entropy: how often, with whom, and within which budgets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshnode.config.gossip import GossipSection
from meshnode.gossip.events import Command, Send
from meshnode.gossip.messages import Adverts, Digest, Message, Proof, Version, Versions, Want, decode_message
from meshnode.gossip.neighbour import burst
from meshnode.gossip.proofs import Conviction, Proofs, proof_of
from meshnode.gossip.rounds import Rounds
from meshnode.gossip.table import Table
from meshnode.model.advert import Advert, unpack
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, node_id, signed

A, B, C = (node_id(number) for number in range(3))
SECTION = GossipSection()
SMALL = replace(SECTION, verifications_per_s=1.0, anti_entropy_s=4.0)
"""Four adverts at once."""


def advert(number: int, sequence: int = 1, **more: object) -> Advert:
    return Advert(node_id(number), MESH, 1, sequence, 180, **more)  # type: ignore[arg-type]


def rounds(*known: Advert, section: GossipSection = SECTION, seed: int = 0) -> Rounds:
    table = Table(section)
    for one in known:
        table.merge(one, signed(one), 180.0, 0.0)
    return Rounds(section, table, Proofs(section), {}, random.Random(seed))


def sent(commands: list[Command]) -> list[tuple[NodeId, Message]]:
    return [(c.to, decode_message(c.data)) for c in commands if isinstance(c, Send)]


def told(commands: list[Command]) -> list[Advert]:
    """The adverts that were sent."""
    return [
        unpack(i.signed.body) for _, message in sent(commands) if isinstance(message, Adverts) for i in message.items
    ]


def wanted(commands: list[Command]) -> list[bytes]:
    return [node for _, message in sent(commands) if isinstance(message, Want) for node in message.ids]


def versions(*adverts: Advert, whole: bytes = b"") -> Versions:
    return Versions(whole, tuple(Version(one.id, one.incarnation, one.sequence) for one in adverts))


# On a new link.


def test_a_new_neighbour_gets_all_that_is_to_be_spread_and_no_digest() -> None:
    made = rounds(advert(5), advert(6, gone=True), advert(7))
    made.table.expire(100.0)
    made.up(A, 100.0)
    commands = made.greet(A, 100.0)
    assert sorted(one.node for one in told(commands)) == sorted(map(node_id, (5, 6, 7)))
    assert {type(message) for _, message in sent(commands)} == {Adverts}
    assert {to for to, _ in sent(commands)} == {A}


def test_a_node_gets_its_own_living_advert_once() -> None:
    made = rounds(advert(0))
    made.up(A, 0.0)
    assert told(made.greet(A, 0.0)) == [advert(0)]


def test_what_is_over_is_told_only_to_its_own_node() -> None:
    made = rounds(advert(0, sequence=9))
    made.table.expire(500.0)
    for node, expected in ((A, [advert(0, sequence=9)]), (B, [])):
        made.up(node, 500.0)
        assert told(made.greet(node, 500.0)) == expected


def test_a_table_as_large_as_the_burst_is_told_whole() -> None:
    made = rounds(*(advert(number) for number in range(10, 14)), section=SMALL)
    made.up(A, 0.0)
    assert [type(message) for _, message in sent(made.greet(A, 0.0))] == [Adverts]


def test_a_table_larger_than_the_burst_is_told_in_part_and_compared() -> None:
    made = rounds(*(advert(number) for number in range(10, 30)), section=SMALL)
    made.up(A, 0.0)
    commands = made.greet(A, 0.0)
    assert len(told(commands)) == burst(SMALL) == 4
    assert [message for _, message in sent(commands) if isinstance(message, Digest)] == [
        Digest(made.table.digests.packed())
    ]
    assert told(made.greet(A, 0.0)) == []


def test_what_fits_into_a_too_small_budget_is_drawn_by_lot() -> None:
    seen: set[NodeId] = set()
    for seed in range(40):
        made = rounds(*(advert(number) for number in range(10, 30)), section=SMALL, seed=seed)
        made.up(A, 0.0)
        seen |= {one.node for one in told(made.greet(A, 0.0))}
    assert len(seen) == 20


# When a round begins, and with whom.


def test_no_round_without_a_neighbour_none_before_it_is_due_and_none_after_leaving() -> None:
    made = rounds()
    assert (made.due, made.begin(1e9, left=False)) == (None, [])
    made.up(A, 100.0)
    assert made.due is not None
    assert 100.0 <= made.due <= 100.0 + SECTION.anti_entropy_s
    assert made.begin(made.due - 1e-3, left=False) == []
    assert made.begin(made.due, left=True) == []
    assert (made.due, made.begun) == (None, 0)


def test_a_second_neighbour_does_not_put_the_round_off() -> None:
    made = rounds()
    made.up(A, 0.0)
    due = made.due
    made.up(B, 1.0)
    assert made.due == due


def test_rounds_follow_one_another_at_their_period_and_reach_every_neighbour() -> None:
    made = rounds()
    for node in (A, B, C):
        made.up(node, 0.0)
    asked: list[NodeId] = []
    now = 0.0
    for _ in range(60):
        assert made.due is not None
        if asked:
            assert 0.9 <= (made.due - now) / SECTION.anti_entropy_s <= 1.1
        now = made.due
        [(to, message)] = sent(made.begin(now, left=False))
        assert message == Digest(made.table.digests.packed())
        asked.append(to)
    assert set(asked) == {A, B, C}
    assert made.begun == 60


def test_without_its_last_neighbour_rounds_end_until_there_is_one_again() -> None:
    made = rounds()
    made.up(A, 0.0)
    made.down(A)
    made.down(B)
    assert made.begin(1e3, left=False) == []
    assert made.due is None
    made.up(B, 2e3)
    assert made.due is not None


@pytest.mark.parametrize("seed", range(8))
def test_a_starved_neighbour_is_asked_first_and_once(seed: int) -> None:
    made = rounds(seed=seed)
    for node in (A, B, C):
        made.up(node, 0.0)
    made.links[B].starved = True
    assert made.due is not None
    assert [to for to, _ in sent(made.begin(made.due, left=False))] == [B]
    assert not made.links[B].starved


# What a round says.


def test_a_digest_is_answered_with_the_versions_that_differ_four_times_in_a_row() -> None:
    made = rounds(advert(5), advert(6))
    made.up(A, 0.0)
    nothing = bytes(len(made.table.digests.packed()))
    [(to, message)] = sent(made.compared(A, nothing, 0.0))
    assert to == A
    assert isinstance(message, Versions)
    assert {version.id for version in message.known} == {node_id(5), node_id(6)}
    assert made.compared(A, made.table.digests.packed(), 0.0) == []
    assert [bool(made.compared(A, nothing, 0.0)) for _ in range(3)] == [True, True, False]
    assert made.compared(A, nothing, SECTION.anti_entropy_s) != []


def test_what_is_newer_there_is_asked_for_and_what_is_newer_here_is_sent() -> None:
    made = rounds(advert(5, sequence=2), advert(6, sequence=2), advert(7))
    made.up(A, 0.0)
    commands = made.listed(A, versions(advert(5, sequence=1), advert(6, sequence=3), advert(7), advert(8)), 0.0)
    assert wanted(commands) == [node_id(6), node_id(8)]
    assert told(commands) == [advert(5, sequence=2)]


def test_no_more_is_asked_for_than_can_be_checked_by_lot_and_the_rest_next_time() -> None:
    seen: set[bytes] = set()
    for seed in range(40):
        made = rounds(section=SMALL, seed=seed)
        made.up(A, 0.0)
        asked = wanted(made.listed(A, versions(*(advert(number) for number in range(10, 30))), 0.0))
        assert len(asked) == burst(SMALL)
        assert made.links[A].starved
        seen |= set(asked)
    assert len(seen) == 20


def test_asking_alone_uses_nothing_up_and_starves_nobody() -> None:
    made = rounds(section=SMALL)
    made.up(A, 0.0)
    assert len(wanted(made.listed(A, versions(*(advert(number) for number in range(10, 14))), 0.0))) == 4
    assert not made.links[A].starved
    assert made.links[A].checks.available(0.0) == burst(SMALL)


def test_asked_for_adverts_are_sent_once_each_and_strangers_are_passed_over() -> None:
    made = rounds(advert(5), advert(6))
    made.up(A, 0.0)
    commands = made.wanted(A, [node_id(6), node_id(99), node_id(6), node_id(5)], 0.0)
    assert told(commands) == [advert(6), advert(5)]


# Proofs.


def convicted(made: Rounds, number: int, now: float) -> Conviction:
    proof = proof_of(signed(advert(number, name="x")), signed(advert(number, name="y")))
    return made.proofs.convict(node_id(number), (1, 1), proof, now)


def test_whoever_lists_a_convicted_node_is_shown_the_proof_and_not_asked_for_its_advert() -> None:
    made = rounds()
    made.up(A, 0.0)
    convicted(made, 5, 0.0)
    commands = made.listed(A, versions(advert(5, sequence=7), advert(6)), 1.0)
    assert wanted(commands) == [node_id(6)]
    assert [type(message) for _, message in sent(commands)] == [Proof, Want]


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (5, 8)])
def test_proofs_are_shown_eight_times_a_round_and_never_to_the_convicted(number: int, shown: int) -> None:
    made = rounds()
    made.up(A, 0.0)
    conviction = convicted(made, number, 0.0)
    assert sum(len(made.show(A, conviction, 0.0)) for _ in range(20)) == shown
