"""One machine, told by hand what neighbours say."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError
from meshnode.gossip import (
    Changed,
    Command,
    Counted,
    Describe,
    Gossip,
    Leave,
    NeighbourDown,
    NeighbourUp,
    Received,
    Send,
    Tick,
    Trimmed,
    Violation,
)
from meshnode.gossip.digest import DIGEST_BYTES
from meshnode.gossip.messages import (
    Adverts,
    Carried,
    Digest,
    Message,
    Versions,
    Want,
    decode_message,
    encode_message,
)
from meshnode.model.advert import Advert, ModelOffer, SignedAdvert
from meshnode.model.codec import MAX_BYTES
from meshnode.model.ids import NodeId
from tests.gossip.world import MESH, UNPROBED, describe, fake_sign, machine, node_id, signed

ME, A, B, C, STRANGER = (node_id(n) for n in range(5))


def started(section: GossipSection | None = None, *neighbours: NodeId) -> Gossip:
    # Without probes, which are the matter of test_detector.py, every frame is an answer.
    made = machine(ME, dataclasses.replace(section or UNPROBED, probe_s=86_400.0, wan_probe_s=86_400.0))
    made.handle(Describe(describe(ME, "me")), 0.0)
    for node in neighbours or (A, B, C):
        made.handle(NeighbourUp(node), 0.0)
    return made


def advert(node: NodeId = STRANGER, sequence: int = 1, name: str = "s", **more: object) -> Advert:
    return Advert(node, MESH, 1, sequence, 180, name=name, **more)  # type: ignore[arg-type]


def carrying(*adverts: Advert, left_s: int = 180) -> bytes:
    return encode_message(Adverts(tuple(Carried(signed(a), left_s) for a in adverts)))


def sent(commands: list[Command]) -> list[tuple[NodeId, Message]]:
    return [(c.to, decode_message(c.data)) for c in commands if isinstance(c, Send)]


def news(commands: list[Command]) -> list[tuple[NodeId, Adverts]]:
    """What is sent, without the rounds of anti-entropy that may fall due meanwhile."""
    return [(to, message) for to, message in sent(commands) if isinstance(message, Adverts)]


def changed(commands: list[Command]) -> set[NodeId]:
    return {node for c in commands if isinstance(c, Changed) for node in c.ids}


def faults(commands: list[Command]) -> list[NodeId]:
    return [c.frm for c in commands if isinstance(c, Violation)]


def test_news_goes_to_all_neighbours_but_the_one_it_came_from_in_the_bytes_it_came_in() -> None:
    made = started()
    commands = made.handle(Received(A, carrying(advert())), 1.0)
    assert sent(commands) == [(to, decode_message(carrying(advert()))) for to in (B, C)]
    assert commands[-1] == Changed(frozenset({STRANGER}))
    assert made.adverts(1.0)[STRANGER] == advert()


def test_is_forwarded_with_what_is_left_of_it() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(), left_s=100)), 1.0)
    [(_, pushed), *_] = news(made.handle(NeighbourUp(node_id(9)), 61.5))
    assert {item.left_s for item in pushed.items if item.signed == signed(advert())} == {39}


def test_of_a_frame_only_the_news_is_passed_on_and_never_with_more_time_than_it_has() -> None:
    made = started()
    known, new = advert(), advert(node_id(20))
    made.handle(Received(A, carrying(known)), 1.0)
    [(_, passed), *_] = news(made.handle(Received(B, carrying(known, new)), 1.0))
    assert passed == decode_message(carrying(new))
    boasting = carrying(advert(node_id(21)), left_s=86_400)
    [(_, passed), *_] = news(made.handle(Received(B, boasting), 1.0))
    assert passed == decode_message(carrying(advert(node_id(21)), left_s=180))


def test_nothing_already_known_is_sent_on() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=5))), 1.0)
    for frm in (A, B, C):
        for sequence in (5, 4, 1):
            assert news(made.handle(Received(frm, carrying(advert(sequence=sequence))), 2.0)) == []


def test_a_renewal_is_forwarded_but_is_no_change() -> None:
    made = started()
    made.handle(Received(A, carrying(advert())), 1.0)
    commands = made.handle(Received(A, carrying(advert(sequence=2))), 50.0)
    assert len(news(commands)) == 2
    assert changed(commands) == set()
    assert made.adverts(200.0)[STRANGER].sequence == 2
    slower = replace(advert(sequence=3), lifetime_s=600)
    assert changed(made.handle(Received(A, carrying(slower, left_s=600)), 51.0)) == set()
    assert changed(made.handle(Received(A, carrying(advert(sequence=4, name="other"))), 62.0)) == {STRANGER}


def test_expiry_is_a_change_and_final_for_that_advert() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(), left_s=10)), 1.0)
    made.handle(Tick(), 10.0)
    assert STRANGER in made.adverts(10.0)
    assert STRANGER not in made.adverts(11.0), "even before the tick that sweeps it"
    assert changed(made.handle(Tick(), 11.0)) == {STRANGER}
    commands = made.handle(Received(B, carrying(advert(), left_s=170)), 12.0)
    assert changed(commands) == set()
    assert sent(commands) == []
    assert STRANGER not in made.adverts(12.0)
    assert changed(made.handle(Received(B, carrying(advert(sequence=2))), 13.0)) == {STRANGER}


def test_a_tombstone_is_a_change_is_spread_and_outlives_older_adverts() -> None:
    made = started()
    made.handle(Received(A, carrying(advert())), 1.0)
    gone = Advert(STRANGER, MESH, 1, 2, 86_400, gone=True)
    commands = made.handle(Received(A, carrying(gone, left_s=86_400)), 2.0)
    assert [to for to, _ in news(commands)] == [B, C]
    assert changed(commands) == {STRANGER}
    for now in (3.0, 1000.0, 80_000.0):
        assert changed(made.handle(Received(B, carrying(advert())), now)) <= {ME}
        assert STRANGER not in made.adverts(now)
    back = replace(advert(), incarnation=2)
    assert changed(made.handle(Received(B, carrying(back)), 80_001.0)) == {STRANGER}


FORGED = SignedAdvert(signed(advert()).body, bytes(64))
FAT_TOMBSTONE = Advert(STRANGER, MESH, 1, 2, 86_400, addresses=("x" * 100, "x" * 100), gone=True)


@pytest.mark.parametrize(
    "data",
    [
        encode_message(Adverts((Carried(FORGED, 180),))),
        encode_message(
            Adverts((Carried(SignedAdvert(signed(advert()).body, fake_sign(A, signed(advert()).body)), 9),))
        ),
        carrying(replace(advert(), mesh=bytes(32))),
        carrying(FAT_TOMBSTONE),
        encode_message(Adverts((Carried(SignedAdvert(b"\x80", bytes(64)), 180),))),
        carrying(replace(advert(), lifetime_s=86_401)),
        b"",
        b"\xff" * 100,
        bytes(MAX_BYTES + 1),
        carrying(advert())[:-1],
        carrying(advert()) + b"\x00",
    ],
)
def test_what_no_honest_node_sends_is_refused_and_changes_nothing(data: bytes) -> None:
    made = started()
    before = (dict(made.adverts(1.0)), made._table.digests.packed(), made.next_wakeup())
    commands = made.handle(Received(A, data), 1.0)
    assert faults(commands) == [A]
    assert len(commands) == 1
    assert (dict(made.adverts(1.0)), made._table.digests.packed(), made.next_wakeup()) == before


def test_what_stood_before_the_fault_in_a_frame_counts_and_what_follows_does_not() -> None:
    made = started()
    frame = Adverts((Carried(signed(advert(node_id(20))), 9), Carried(FORGED, 9), Carried(signed(advert(C)), 9)))
    commands = made.handle(Received(A, encode_message(frame)), 1.0)
    assert faults(commands) == [A]
    assert changed(commands) == {node_id(20)}


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage_to_a_frame_is_harmless(data: st.DataObject) -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=5))), 1.0)
    frame = bytearray(
        data.draw(
            st.sampled_from(
                [carrying(advert(sequence=6)), encode_message(Want((STRANGER,))), encode_message(Versions(b"\1", ()))]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    original = carrying(advert(sequence=6))
    commands = made.handle(Received(B, bytes(frame)), 2.0)
    if bytes(frame) != original:
        # Only the lifetime is not signed; everything else of an advert is.
        accepted = made.adverts(2.0).get(STRANGER)
        assert accepted in (advert(sequence=5), advert(sequence=6), None)
    assert set(faults(commands)) <= {B}


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_garbage_and_cuts_are_errors_of_their_sender_only(garbage: bytes, cut: int) -> None:
    made = started()
    frame = carrying(advert())
    for data in (garbage, frame[: min(cut, len(frame) - 1)]):
        commands = made.handle(Received(A, data), 1.0)
        assert faults(commands) == [A]
        assert list(made.adverts(1.0)) == [ME]


def test_nobody_is_accused_by_a_forgery() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(name="x"))), 1.0)
    forged = SignedAdvert(signed(advert(name="y")).body, bytes(64))
    commands = made.handle(Received(B, encode_message(Adverts((Carried(forged, 9),)))), 2.0)
    assert [c for c in commands if not isinstance(c, Send)] == [Violation(B, "advert with a bad signature")]
    assert news(commands) == []


def test_a_neighbour_is_checked_for_only_as_often_as_its_budget_allows() -> None:
    checks: list[NodeId] = []
    section = GossipSection(verifications_per_s=10, anti_entropy_s=2.0)
    made = started(section, A, B)
    real = made._intake.judge
    made._intake.judge = lambda advert, body, signature: checks.append(advert.node) or real(advert, body, signature)
    crowd = [advert(node_id(100 + n)) for n in range(60)]
    commands = made.handle(Received(A, carrying(*crowd)), 1.0)
    assert len(checks) == 20, "what may come between two rounds"
    assert len(changed(commands)) == 20
    assert faults(commands) == []
    made.handle(Received(A, carrying(*crowd)), 2.0)
    assert len(checks) == 30
    made.handle(Received(B, carrying(*crowd[30:50])), 2.0)
    assert len(checks) == 50, "another neighbour has its own"
    made.handle(Received(A, carrying(*crowd)), 100.0)
    assert len(made.adverts(100.0)) == 61, "what was refused for its rate is not lost for ever"


def test_who_had_more_news_than_its_budget_is_asked_next() -> None:
    section = GossipSection(verifications_per_s=1, anti_entropy_s=5.0)
    for n in range(6):
        made = started(section, *(node_id(10 + m) for m in range(6)))
        made.handle(Received(node_id(10 + n), carrying(*(advert(node_id(100 + m)) for m in range(9)))), 0.1)
        wakeup = made.next_wakeup()
        assert wakeup is not None
        assert [to for to, m in sent(made.handle(Tick(), wakeup)) if isinstance(m, Digest)] == [node_id(10 + n)]


def test_proof_of_how_far_a_node_had_counted_ends_older_adverts_and_is_not_flooded() -> None:
    made = started()
    made.handle(Received(A, carrying(advert())), 1.0)
    commands = made.handle(Received(B, carrying(advert(sequence=50), left_s=0)), 2.0)
    assert [c for c in commands if not isinstance(c, Send)] == [Changed(frozenset({STRANGER}))]
    assert news(commands) == []
    assert STRANGER not in made.adverts(2.0)
    assert changed(made.handle(Received(A, carrying(advert(sequence=50), left_s=100)), 3.0)) == {STRANGER}


def test_a_frame_is_remembered_only_when_the_same_again_would_bring_nothing() -> None:
    made = started(GossipSection(verifications_per_s=1, anti_entropy_s=1.0, advert_burst=1, advert_refill_s=10.0))
    pair = carrying(advert(node_id(100)), advert(node_id(101)))
    assert len(changed(made.handle(Received(A, pair), 0.1))) == 1
    assert changed(made.handle(Received(A, pair), 0.2)) == set(), "A's budget is used up"
    assert changed(made.handle(Received(B, pair), 0.3)) == {node_id(101)}
    soon = carrying(advert(node_id(100), 2, name="x"))
    assert changed(made.handle(Received(C, soon), 5.0)) == set(), "so is that of the node"
    assert changed(made.handle(Received(C, soon), 11.0)) == {node_id(100)}
    over = carrying(advert(node_id(102)), left_s=0)
    assert [news(made.handle(Received(A, over), 20.0)) for _ in range(2)] == [[], []]
    for n in range(300):
        made.handle(Received(A, carrying(advert(node_id(103), n + 1))), 30.0 + 11.0 * n)
    assert len(made._echoes) <= 128


def test_known_adverts_cost_no_check() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=9))), 1.0)
    made._intake.judge = lambda advert, body, signature: pytest.fail("checked")
    for sequence in range(1, 10):
        made.handle(Received(B, carrying(advert(sequence=sequence))), 1.0)


def test_a_node_that_speaks_too_often_is_heard_now_and_then() -> None:
    made = started(GossipSection(advert_burst=4, advert_refill_s=1.0))
    heard = 0
    for n in range(200):
        heard += bool(news(made.handle(Received((A, B, C)[n % 3], carrying(advert(sequence=n + 1))), 1.0 + n / 10)))
    assert heard == 4 + 19
    made.handle(Received(A, carrying(advert(sequence=200))), 30.0)
    assert made.adverts(30.0)[STRANGER].sequence == 200


def test_a_forger_does_not_use_up_the_budget_of_another() -> None:
    made = started(GossipSection(advert_burst=2, advert_refill_s=100.0))
    made.handle(Received(A, carrying(advert())), 1.0)
    for sequence in range(2, 30):
        forged = SignedAdvert(signed(advert(sequence=sequence)).body, bytes(64))
        made.handle(Received(B, encode_message(Adverts((Carried(forged, 9),)))), 1.0)
    assert sent(made.handle(Received(A, carrying(advert(sequence=2))), 1.0))


def test_a_lost_counter_is_found_and_overtaken_at_once() -> None:
    made = started()
    old = replace(describe(ME, "earlier"), incarnation=5, sequence=70, lifetime_s=180)
    commands = made.handle(Received(A, carrying(old)), 1.0)
    assert made.adverts(1.0)[ME].incarnation == 6, "a new incarnation: others may know later ones of that one"
    assert made.adverts(1.0)[ME].name == "me"
    assert made.incarnation == 6
    assert [to for to, _ in news(commands)] == [A, B, C]
    assert commands[0] == Counted(6), "it is kept before anybody hears of it"
    assert not any(isinstance(c, Counted) for c in made.handle(Tick(), 200.0)), "and once"


def test_a_forged_advert_of_this_node_makes_it_jump_nowhere() -> None:
    made = started()
    old = signed(replace(describe(ME, "x"), incarnation=5, sequence=2**62, lifetime_s=180))
    forged = encode_message(Adverts((Carried(SignedAdvert(old.body, bytes(64)), 9),)))
    assert faults(made.handle(Received(A, forged), 1.0)) == [A]
    assert made.adverts(1.0)[ME].incarnation == 1


@pytest.mark.parametrize("sequence", [0, 2**40])
def test_who_bears_an_incarnation_again_leaves_it_as_soon_as_it_is_shown_that(sequence: int) -> None:
    """Whether others took what it said for newer or for older."""
    made = started()
    first = made.adverts(0.0)[ME]
    before = replace(describe(ME, "before"), incarnation=first.incarnation, sequence=sequence, lifetime_s=180)
    made.handle(Received(A, carrying(before)), 1.0)
    assert made.adverts(1.0)[ME].incarnation == first.incarnation + 1
    made.handle(Received(B, carrying(first)), 2.0)
    made.handle(Received(B, carrying(before)), 2.0)
    assert made.adverts(2.0)[ME].incarnation == first.incarnation + 1, "what it said itself does not come back as news"


def test_who_lost_its_counter_is_shown_how_far_it_had_counted_even_after_that_ended() -> None:
    made = started()
    made.handle(Received(A, carrying(advert(sequence=50), left_s=10)), 1.0)
    made.handle(Tick(), 20.0)
    [(to, shown)] = sent(made.handle(NeighbourUp(STRANGER), 21.0))
    assert to == STRANGER
    assert isinstance(shown, Adverts)
    assert Carried(signed(advert(sequence=50)), 0) in shown.items

    back = machine(STRANGER)
    back.handle(Describe(describe(STRANGER, "back")), 0.0)
    back.handle(NeighbourUp(ME), 0.0)
    [(_, again)] = sent(back.handle(Received(ME, encode_message(shown)), 0.0))[:1]
    assert isinstance(again, Adverts)
    assert changed(made.handle(Received(STRANGER, encode_message(again)), 22.0)) >= {STRANGER}
    assert made.adverts(22.0)[STRANGER].incarnation == 2


def test_a_round_compares_and_brings_both_to_the_newest() -> None:
    one, other = started(None, A), machine(A, dataclasses.replace(UNPROBED, anti_entropy_s=1000.0))
    other.handle(Describe(describe(A, "a")), 0.0)
    other.handle(NeighbourUp(ME), 0.0)
    one.handle(Received(A, carrying(advert(node_id(30), 2), advert(node_id(31), 1))), 0.0)
    other.handle(Received(ME, carrying(advert(node_id(30), 1), advert(node_id(31), 2), advert(node_id(32)))), 0.0)
    wakeup = one.next_wakeup()
    assert wakeup is not None
    queue = [(other, ME, c.data) for c in one.handle(Tick(), wakeup) if isinstance(c, Send)]
    assert isinstance(decode_message(queue[0][2]), Digest)
    frames = 0
    while queue:
        target, frm, data = queue.pop(0)
        frames += 1
        for command in target.handle(Received(frm, data), wakeup):
            if isinstance(command, Send):
                queue.append((one, A, command.data) if target is other else (other, ME, command.data))
    assert one.adverts(wakeup) == other.adverts(wakeup)
    assert len(one.adverts(wakeup)) == 5
    assert frames == 5, "digest, versions, want, and adverts both ways"
    assert one._table.digests.packed() == other._table.digests.packed()


def test_equal_tables_cost_one_frame_a_round() -> None:
    made = started()
    assert made.handle(Received(A, encode_message(Digest(made._table.digests.packed()))), 1.0) == []


def test_questions_are_answered_within_a_budget() -> None:
    made = started(GossipSection(verifications_per_s=10, anti_entropy_s=5.0))
    crowd = [advert(node_id(100 + n)) for n in range(50)]
    made.handle(Received(B, carrying(*crowd)), 1.0)
    wanted = encode_message(Want(tuple(a.id for a in crowd)))

    def answered(data: bytes, times: int) -> int:
        messages = [m for _ in range(times) for _, m in sent(made.handle(Received(A, data), 1.0))]
        return sum(len(m.items) if isinstance(m, Adverts) else 1 for m in messages)

    assert answered(wanted, 20) <= 50
    assert answered(encode_message(Versions(bytes(range(256)), ())), 20) == 0
    assert answered(encode_message(Digest(bytes(DIGEST_BYTES))), 50) == 4


def test_a_table_larger_than_a_frame_is_pushed_in_several() -> None:
    made = started()
    for start in range(100, 400, 60):
        crowd = [advert(node_id(n), name="n" * 120, addresses=("a" * 120,) * 2) for n in range(start, start + 60)]
        made.handle(Received(A, carrying(*crowd)), 1.0)
    pushed = [c for c in made.handle(NeighbourUp(STRANGER), 1.0) if isinstance(c, Send)]
    assert len(pushed) > 2
    assert all(len(c.data) <= MAX_BYTES for c in pushed)
    assert sum(len(decode_message(c.data).items) for c in pushed) == 301  # type: ignore[union-attr]


def test_a_table_larger_than_a_neighbour_can_check_is_compared_at_once() -> None:
    made = started(GossipSection(verifications_per_s=4, anti_entropy_s=5.0))
    for n in range(30):
        made.handle(Received(A, carrying(advert(node_id(100 + n)))), 2.0 * n)
    messages = [m for _, m in sent(made.handle(NeighbourUp(STRANGER), 60.0))]
    assert isinstance(messages[0], Digest)
    assert sum(len(m.items) for m in messages if isinstance(m, Adverts)) == 20


def test_before_it_knows_its_mesh_and_after_leaving_it_is_silent() -> None:
    made = machine(ME)
    assert made.next_wakeup() is None
    assert made.handle(NeighbourUp(A), 0.0) == []
    assert made.handle(Received(A, carrying(advert())), 0.0) == []
    assert made.handle(Leave(), 0.0) == []
    commands = made.handle(Describe(describe(ME)), 1.0)
    assert [to for to, _ in sent(commands)] == [A]
    assert changed(commands) == {ME}

    commands = made.handle(Leave(), 2.0)
    [(to, message)] = sent(commands)
    assert isinstance(message, Adverts)
    assert (to, message.items[0].left_s) == (A, 86_400)
    assert changed(commands) == {ME}
    assert made.adverts(2.0) == {}
    for event in (Received(A, carrying(advert())), Describe(describe(ME, "x")), NeighbourUp(B), Tick(), Leave()):
        assert made.handle(event, 100.0) == []


def test_strangers_and_former_neighbours_are_not_listened_to() -> None:
    made = started()
    assert made.handle(Received(STRANGER, carrying(advert())), 1.0) == []
    made.handle(NeighbourDown(A), 1.0)
    assert made.handle(Received(A, carrying(advert())), 1.0) == []
    assert made.handle(NeighbourDown(A), 1.0) == []
    assert made.handle(NeighbourUp(ME), 1.0) == []


def test_an_advert_that_does_not_fit_is_trimmed_and_that_is_told() -> None:
    made = machine(ME)
    many = replace(describe(ME), models=tuple(ModelOffer("m" * 100 + str(n)) for n in range(60)))
    trimmed = [c for c in made.handle(Describe(many), 0.0) if isinstance(c, Trimmed)]
    assert [t.models + len(made.adverts(0.0)[ME].models) for t in trimmed] == [60]


def test_a_description_that_nobody_would_accept_is_refused_without_a_trace() -> None:
    made = started()
    with pytest.raises(DecodeError):
        made.handle(Describe(replace(describe(ME), name="x" * 200)), 1.0)
    assert made.adverts(1.0)[ME].name == "me"
    assert all(
        not isinstance(c, Send) or not isinstance(decode_message(c.data), Adverts) for c in made.handle(Tick(), 10.0)
    )


def test_this_nodes_own_advert_outlives_a_long_stop() -> None:
    made = started()
    first = made.adverts(0.0)[ME].sequence
    commands = made.handle(Tick(), 10_000.0)
    assert made.adverts(10_000.0)[ME].sequence == first + 1
    assert [to for to, m in sent(commands) if isinstance(m, Adverts)] == [A, B, C]


def test_memory_is_bounded_whatever_arrives() -> None:
    made = started(GossipSection(nodes=50, verifications_per_s=2000))
    for n in range(1000):
        made.handle(Received((A, B, C)[n % 3], carrying(advert(node_id(1000 + n)))), 1.0 + n / 100)
        gone = Advert(node_id(5000 + n), MESH, 1, 1, 86_400, gone=True)
        made.handle(Received((A, B, C)[n % 3], carrying(gone, left_s=86_400)), 1.0 + n / 100)
    table = made._table
    assert len(made.adverts(11.0)) == 50
    assert len(table._entries) == len(table._by_body) == len(table._wheel._slot_of) == 100
    assert ME in made.adverts(11.0)
    assert sum(len(table.digests.members(b)) for b in range(256)) == 100


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0.0, 100.0)), max_size=40))
def test_never_asks_to_be_woken_in_the_past(steps: list[tuple[int, float]]) -> None:
    made = started()
    now = 0.0
    for n, (what, wait) in enumerate(steps):
        now += wait
        events = (
            Tick(),
            Describe(describe(ME, str(n))),
            NeighbourUp(B),
            NeighbourDown(A),
            Received(B, carrying(advert(sequence=n + 1), left_s=wait > 50)),
            Received(C, encode_message(Digest(bytes(DIGEST_BYTES)))),
            Received(C, carrying(replace(describe(ME), incarnation=1, sequence=n + 5, lifetime_s=9))),
        )
        made.handle(events[what], now)
        wakeup = made.next_wakeup()
        assert wakeup is None or wakeup > now
        assert ME in made.adverts(now)
