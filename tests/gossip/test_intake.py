"""The way in for adverts: what is taken, what costs a signature check, and what changes nothing."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError, ProtocolViolation
from meshnode.gossip import Verdict
from meshnode.gossip.intake import MAX_TOMBSTONE_BYTES, REASONS, Intake, Taken
from meshnode.gossip.messages import Carried, Proof, decode_message
from meshnode.gossip.neighbour import Neighbour, neighbour
from meshnode.gossip.own import Own
from meshnode.gossip.proofs import Proofs, proof_of
from meshnode.gossip.table import State, Table
from meshnode.model.advert import Advert, ModelOffer, SignedAdvert
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, describe, fake_judge, fake_sign, node_id, signed

ME, ANN, BOB = node_id(0), node_id(1), node_id(2)
SECTION = GossipSection(verifications_per_s=4, anti_entropy_s=2.0, advert_burst=4, advert_refill_s=1.0)
CHECKS = 8
"""At once, by these settings."""

NOTHING = Taken()


class Scene:
    """An intake that counts what it has checked; `frm` is a neighbour with full budgets."""

    def __init__(self, section: GossipSection = SECTION) -> None:
        self.judged: list[tuple[NodeId, int, int]] = []
        own = Own(ME, section, lambda body: fake_sign(ME, body), random.Random(1), 1)
        own.describe(describe(ME, "me"), 0.0)
        self.table = Table(section)
        self.intake = Intake(self._judge, own, self.table, Proofs(section))
        said = own.advert(0.0)
        assert said is not None
        self.table.put(*said, left_s=180, now=0.0)
        self.section = section
        self.frm = self.neighbour()

    def neighbour(self) -> Neighbour:
        return neighbour(self.section)

    def take(self, advert: Advert, now: float = 0.0, frm: Neighbour | None = None, left_s: int = 180) -> Taken:
        return self.intake.take(frm or self.frm, Carried(signed(advert), left_s), now)

    def snapshot(self) -> object:
        """All that adverts of others may change."""
        known = {node: dataclasses.replace(entry) for node, entry in self.table._entries.items()}
        return known, dict(self.intake.unwanted), Counter(self.intake.counts), self.intake.own.order

    def _judge(self, advert: Advert, body: bytes, signature: bytes) -> Verdict:
        self.judged.append((advert.node, *advert.order))
        return fake_judge(advert, body, signature)


def advert(node: NodeId = ANN, sequence: int = 1, name: str = "ann", incarnation: int = 1, **more: object) -> Advert:
    return Advert(node, MESH, incarnation, sequence, 180, name=name, **more)  # type: ignore[arg-type]


AMPLE = GossipSection(verifications_per_s=10**6, advert_burst=10**6)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), max_size=30))
@settings(deadline=None)
def test_the_newest_stays_whatever_the_order_and_nothing_older_or_equal_is_checked(
    orders: list[tuple[int, int]],
) -> None:
    scene = Scene(AMPLE)
    best = (0, 0)
    for order in orders:
        taken = scene.take(advert(incarnation=order[0], sequence=order[1]))
        assert (taken.news is not None) == (order > best)
        best = max(best, order)
    entry = scene.table.get(ANN)
    assert (entry.order if entry is not None else (0, 0)) == best
    assert [order for _, *order in scene.judged] == sorted([incarnation, n] for _, incarnation, n in scene.judged)
    assert len(set(scene.judged)) == len(scene.judged) == scene.intake.counts["news"]


def fat_tombstone() -> Advert:
    return advert(gone=True, models=tuple(ModelOffer(f"model-{n}" * 4, context=1) for n in range(8)))


@pytest.mark.parametrize(
    "item",
    [
        Carried(SignedAdvert(signed(advert()).body, bytes(64)), 180),
        Carried(SignedAdvert(signed(advert(name="stranger")).body, bytes(64)), 180),
        Carried(SignedAdvert(signed(advert(ME, sequence=9, name="me")).body, bytes(64)), 180),
        Carried(signed(Advert(ANN, b"x" * 32, 1, 1, 180)), 180),
        Carried(SignedAdvert(b"\xa0", bytes(64)), 180),
        Carried(signed(fat_tombstone()), 180),
    ],
    ids=["forged", "of a stranger and forged", "in our name and forged", "other mesh", "no advert", "fat tombstone"],
)
def test_what_no_honest_node_sends_is_refused_and_changes_nothing(item: Carried) -> None:
    scene = Scene()
    scene.take(advert(BOB, name="bob"))
    before = scene.snapshot()
    with pytest.raises((ProtocolViolation, DecodeError)):
        scene.intake.take(scene.frm, item, 1.0)
    assert scene.snapshot() == before


def test_a_tombstone_may_be_as_long_as_its_chain_and_a_little() -> None:
    scene = Scene()
    assert scene.take(advert(gone=True, name="", chain=b"c" * 4 * MAX_TOMBSTONE_BYTES)).news is not None
    assert scene.table.entry(ANN).state is State.GONE


def test_a_neighbour_pays_for_checks_and_another_does_not_pay_for_it() -> None:
    scene = Scene()
    taken = [scene.take(advert(node_id(10 + n), name=f"n{n}")).news is not None for n in range(2 * CHECKS)]
    assert taken == [True] * CHECKS + [False] * CHECKS
    assert scene.frm.starved and scene.intake.counts["checks"] == CHECKS
    other = scene.neighbour()
    assert scene.take(advert(node_id(99), name="late"), frm=other).news is not None
    assert not other.starved
    # What could not be paid for is not held against its node: it is taken when it comes again.
    assert scene.take(advert(node_id(10 + CHECKS), name=f"n{CHECKS}"), now=60.0).news is not None


def test_who_says_too_much_is_heard_again_when_time_has_passed() -> None:
    scene = Scene(dataclasses.replace(AMPLE, advert_burst=4, advert_refill_s=10.0))
    heard = [scene.take(advert(sequence=n)).news is not None for n in range(1, 8)]
    assert heard == [True] * 4 + [False] * 3
    assert scene.intake.counts["rate"] == 3
    assert scene.take(advert(sequence=7), now=11.0).news is not None


@given(st.lists(st.sampled_from(["forged", "older", "same", "stranger"]), max_size=40))
@settings(deadline=None)
def test_nobody_uses_up_what_another_node_may_say(attacks: list[str]) -> None:
    """Forged adverts in its name, and copies of what it has said, cost it nothing."""
    scene = Scene(dataclasses.replace(AMPLE, advert_burst=4, advert_refill_s=1000.0))
    scene.take(advert(sequence=5))
    left = scene.table.entry(ANN).rate.available(0.0)
    for attack in attacks:
        match attack:
            case "forged":
                with pytest.raises(ProtocolViolation):
                    scene.intake.take(
                        scene.frm, Carried(SignedAdvert(signed(advert(sequence=9)).body, bytes(64)), 180), 0.0
                    )
            case "older":
                scene.take(advert(sequence=3))
            case "same":
                scene.take(advert(sequence=5))
            case _:
                scene.take(advert(sequence=6, name="stranger"))
    assert scene.table.entry(ANN).rate.available(0.0) == left
    assert scene.take(advert(sequence=10)).news is not None


def test_an_advert_of_our_own_that_this_process_did_not_make_is_counted_past() -> None:
    scene = Scene()
    own, said = scene.intake.own, scene.table.entry(ME).order
    assert scene.take(advert(ME, sequence=7, name="me", incarnation=3)) == NOTHING
    assert own.incarnation == 4
    order, checked = own.order, len(scene.judged)
    assert scene.take(advert(ME, sequence=7, name="me", incarnation=3)) == NOTHING
    assert (own.order, len(scene.judged)) == (order, checked)
    assert scene.table.entry(ME).order == said, "another's copy is never put in our place"


def test_whoever_goes_on_above_us_whatever_we_count_is_a_second_one_with_our_key() -> None:
    scene = Scene(dataclasses.replace(SECTION, verifications_per_s=100))
    own = scene.intake.own
    for _ in range(4):
        assert scene.take(advert(ME, name="me", incarnation=own.incarnation + 1)) == NOTHING
    taken = scene.take(advert(ME, name="me", incarnation=own.incarnation + 1))
    assert taken.convicted is not None and taken.convicted.node == ME
    assert Scene().intake.hear(scene.frm, _proof(taken.convicted.frame), 1.0).convicted is not None, "others agree"
    assert taken.changed is None, "what we know of ourselves stays"
    assert scene.take(advert(ME, name="me", incarnation=own.incarnation + 9)) == NOTHING, "once"


def _proof(frame: bytes) -> Proof:
    message = decode_message(frame)
    assert isinstance(message, Proof)
    return message


def test_a_copy_of_what_we_say_ourselves_is_no_news_to_us() -> None:
    scene = Scene()
    before = scene.snapshot()
    assert scene.intake.take(scene.frm, Carried(scene.table.entry(ME).signed, 180), 1.0) == NOTHING
    assert scene.snapshot() == before and scene.judged == []


# Contradictions.


def twice(sequence: int = 1, node: NodeId = ANN) -> Proof:
    return proof_of(signed(advert(node, sequence, "one")), signed(advert(node, sequence, "two")))


@pytest.mark.parametrize("first", ["one", "two"])
def test_who_signs_two_adverts_of_one_order_is_put_aside_whichever_came_first(first: str) -> None:
    scene = Scene()
    scene.take(advert(name=first))
    taken = scene.take(advert(name="two" if first == "one" else "one"))
    assert taken.convicted is not None and taken.convicted.node == ANN
    assert taken.changed == ANN and scene.table.get(ANN) is None
    # Whoever brings more of it lacks the proof, and is to be shown it.
    after = scene.take(advert(sequence=2))
    assert after == Taken(lacks=taken.convicted)
    assert scene.take(advert(sequence=2), now=SECTION.conviction_s + 1.0).news is not None


def test_a_proof_by_hearsay_convicts_as_well_and_once() -> None:
    scene = Scene()
    scene.take(advert(name="one"))
    heard = scene.intake.hear(scene.frm, twice(), 1.0)
    assert heard.convicted is not None and heard.changed == ANN
    assert scene.intake.hear(scene.frm, twice(), 2.0) == NOTHING
    # A proof is good for ever: who was convicted for it is not convicted for it again.
    later = SECTION.conviction_s + 2.0
    assert scene.intake.hear(scene.frm, twice(), later) == NOTHING
    assert scene.intake.hear(scene.frm, twice(sequence=2), later).convicted is not None


def test_a_proof_with_a_forged_half_is_a_breach_and_convicts_nobody() -> None:
    scene = Scene()
    true, other = signed(advert(name="one")), signed(advert(name="two"))
    for first, second in ((true, SignedAdvert(other.body, bytes(64))), (SignedAdvert(true.body, bytes(64)), other)):
        with pytest.raises(ProtocolViolation):
            scene.intake.hear(scene.neighbour(), proof_of(first, second), 1.0)
    assert scene.take(advert(name="one")).news is not None


@pytest.mark.parametrize(
    "proof",
    [
        proof_of(signed(advert(sequence=1)), signed(advert(sequence=2))),
        proof_of(signed(advert(ANN)), signed(advert(BOB))),
        Proof(signed(advert()), signed(advert())),
        Proof(twice().second, twice().first),
        proof_of(signed(Advert(ANN, b"x" * 32, 1, 1, 180)), signed(Advert(ANN, b"x" * 32, 1, 1, 9))),
    ],
    ids=["two orders", "two nodes", "one advert", "the wrong way round", "another mesh"],
)
def test_a_proof_that_proves_nothing_is_a_breach_before_anything_is_checked(proof: Proof) -> None:
    scene = Scene()
    with pytest.raises(ProtocolViolation):
        scene.intake.hear(scene.frm, proof, 1.0)
    assert scene.judged == []


def test_a_proof_that_cannot_be_paid_for_convicts_nobody_yet() -> None:
    scene = Scene()
    assert scene.frm.checks.take(0.0, CHECKS - 1)
    assert scene.intake.hear(scene.frm, twice(), 0.0) == NOTHING
    assert scene.frm.starved
    assert scene.intake.hear(scene.neighbour(), twice(), 0.0).convicted is not None


def test_a_proof_about_strangers_puts_nobody_aside() -> None:
    scene = Scene()
    lies = proof_of(signed(advert(name="stranger")), signed(advert(name="stranger", chain=b"x")))
    assert scene.intake.hear(scene.frm, lies, 1.0) == NOTHING
    assert scene.take(advert(name="ann")).news is not None


def test_a_proof_about_ourselves_is_told_on_and_what_we_say_stays() -> None:
    """A copied key: others put us aside, and we learn of it."""
    scene = Scene()
    heard = scene.intake.hear(scene.frm, twice(node=ME, sequence=9), 1.0)
    assert heard.convicted is not None and heard.changed is None
    assert scene.table.get(ME) is not None


# Whatever comes.

ADVERTS = st.builds(
    advert,
    st.sampled_from([ME, ANN, BOB, node_id(3)]),
    st.integers(1, 4),
    st.sampled_from(["one", "two", "stranger"]),
    st.integers(1, 2),
    gone=st.booleans(),
)


@given(st.lists(st.tuples(ADVERTS, st.booleans(), st.integers(0, 180), st.floats(0.0, 400.0)), max_size=40))
@settings(deadline=None)
def test_whatever_comes_in_whatever_order_the_table_holds_signed_members_only_and_we_stay_ourselves(
    items: list[tuple[Advert, bool, int, float]],
) -> None:
    scene = Scene()
    own, now = scene.table.entry(ME).signed, 0.0
    for said, honest, left_s, passed_s in items:
        now += passed_s
        item = signed(said)
        try:
            taken = scene.intake.take(
                scene.frm, Carried(item if honest else SignedAdvert(item.body, bytes(64)), left_s), now
            )
        except ProtocolViolation:
            assert not honest
            continue
        if taken.news is not None:
            assert honest and taken.news.signed == item and taken.news.state is not State.OVER
        assert taken.convicted is None or scene.table.get(taken.convicted.node) is None
    for node, entry in scene.table._entries.items():
        assert entry.signed.signature == fake_sign(node, entry.signed.body)
    assert scene.table.entry(ME).signed == own
    assert set(scene.intake.counts) <= {"news", *REASONS}
