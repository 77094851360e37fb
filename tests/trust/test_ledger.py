"""Who is asked, when, and what counts: claims never do, evidence does until it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.ids import NodeId
from meshnode.model.posture import Posture
from meshnode.trust.ledger import (
    AT_ONCE,
    MOST_DIGESTS,
    RETRY_MOST_S,
    RETRY_S,
    Challenge,
    Challenged,
    Changed,
    Claim,
    Command,
    Fetch,
    Fetched,
    Ledger,
    Seen,
    Tick,
)

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)
D, E = b"d" * 32, b"e" * 32
NOTHING: frozenset[bytes] = frozenset()


def ledger() -> Ledger:
    return Ledger(challenges=True, fetches=True)


def seen(**claims: Claim) -> Seen:
    return Seen({{"a": A, "b": B}[name]: claim for name, claim in claims.items()})


ATTESTED = Claim(attested=True, digests=NOTHING)
WEIGHTS = Claim(attested=False, digests=frozenset({D}), all=True)


def test_a_claim_is_no_posture() -> None:
    machine = ledger()
    assert machine.handle(seen(a=ATTESTED, b=WEIGHTS), 0.0) == [Challenge(A), Fetch(B, D)]
    assert machine.postures == {} and machine.weights == {}


def test_nobody_is_asked_who_claims_nothing() -> None:
    machine = ledger()
    assert machine.handle(seen(a=Claim(False, NOTHING)), 0.0) == []
    assert machine.next_wakeup() is None


def test_nobody_is_asked_where_nobody_would_be_believed() -> None:
    machine = Ledger(challenges=False, fetches=False)
    assert machine.handle(seen(a=ATTESTED, b=WEIGHTS), 0.0) == []
    assert machine.next_wakeup() is None


def test_evidence_counts_until_it_ends_and_is_renewed_in_time() -> None:
    machine = ledger()
    machine.handle(seen(a=ATTESTED), 0.0)
    assert machine.handle(Challenged(A, 3600.0), 1.0) == [Changed()]
    assert machine.postures == {A: Posture.ATTESTED}
    assert machine.next_wakeup() == 1801.0
    assert machine.handle(Tick(), 1801.0) == [Challenge(A)]
    assert machine.next_wakeup() == 3601.0
    assert machine.handle(Tick(), 3601.0) == [Changed()]
    assert machine.postures == {}


def test_a_node_that_is_gone_has_shown_nothing() -> None:
    machine = ledger()
    machine.handle(seen(a=ATTESTED), 0.0)
    machine.handle(Challenged(A, 3600.0), 1.0)
    assert machine.handle(Seen({}), 2.0) == [Changed()]
    assert machine.handle(seen(a=ATTESTED), 3.0) == [Challenge(A)]
    assert machine.postures == {}


def test_what_fails_is_tried_again_ever_more_rarely() -> None:
    machine, now, waits = ledger(), 0.0, []
    machine.handle(seen(a=ATTESTED), now)
    for _ in range(6):
        assert Challenge(A) not in machine.handle(Challenged(A, None), now)
        wakeup = machine.next_wakeup()
        assert wakeup is not None
        waits.append(wakeup - now)
        now = wakeup
        assert machine.handle(Tick(), now) == [Challenge(A)]
    assert waits == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S, RETRY_MOST_S, RETRY_MOST_S]


def test_a_failed_renewal_does_not_end_what_was_shown() -> None:
    machine = ledger()
    machine.handle(seen(a=ATTESTED), 0.0)
    machine.handle(Challenged(A, 3600.0), 0.0)
    machine.handle(Tick(), 1800.0)
    assert machine.handle(Challenged(A, None), 1801.0) == []
    assert machine.postures == {A: Posture.ATTESTED}


def test_a_manifest_covers_a_digest_whoever_offers_it() -> None:
    machine = ledger()
    assert machine.handle(seen(a=WEIGHTS, b=WEIGHTS), 0.0) == [Fetch(A, D)], "one question a digest"
    assert machine.handle(Fetched(A, D, True), 1.0) == [Changed()]
    assert machine.weights == {A: {D}, B: {D}}
    assert machine.postures == {A: Posture.SIGNED_WEIGHTS, B: Posture.SIGNED_WEIGHTS}


def test_the_next_node_is_asked_where_one_has_no_manifest() -> None:
    machine = ledger()
    machine.handle(seen(a=WEIGHTS, b=WEIGHTS), 0.0)
    assert machine.handle(Fetched(A, D, False), 1.0) == [Fetch(B, D)]


def test_a_node_with_other_models_too_is_not_of_signed_weights_as_a_whole() -> None:
    machine = ledger()
    partly = Claim(attested=False, digests=frozenset({D}), all=False)
    two = Claim(attested=False, digests=frozenset({D, E}), all=True)
    machine.handle(seen(a=partly, b=two), 0.0)
    machine.handle(Fetched(A, D, True), 1.0)
    assert machine.weights == {A: {D}, B: {D}} and machine.postures == {}
    machine.handle(Fetched(B, E, True), 2.0)
    assert machine.postures == {B: Posture.SIGNED_WEIGHTS}


def test_other_weights_are_other_weights() -> None:
    machine = ledger()
    machine.handle(seen(a=WEIGHTS), 0.0)
    machine.handle(Fetched(A, D, True), 1.0)
    assert machine.handle(seen(a=Claim(False, frozenset({E}), all=True)), 2.0) == [Fetch(A, E), Changed()]
    assert machine.weights == {} and machine.postures == {}


Step = tuple[str, int, bool]


@given(st.lists(st.tuples(st.sampled_from(["see", "answer", "fetch", "wait"]), st.integers(0, 30), st.booleans())))
def test_whatever_happens_no_posture_without_an_answer_and_never_too_many_questions(steps: list[Step]) -> None:
    machine, now = ledger(), 0.0
    shown: set[NodeId] = set()
    covered: set[bytes] = set()
    asked: set[Command] = set()
    nodes = [NodeId(bytes([number]) * 32) for number in range(31)]
    for word, number, yes in steps:
        match word:
            case "see":
                claims = {
                    node: Claim(yes, frozenset({bytes([index % 3]) * 32}), all=yes)
                    for index, node in enumerate(nodes[:number])
                }
                commands = machine.handle(Seen(claims), now)
                asked = {command for command in asked if _node(command) in claims}
                shown &= set(claims)
            case "answer":
                commands = machine.handle(Challenged(nodes[number], 100.0 if yes else None), now)
                asked.discard(Challenge(nodes[number]))
                shown |= {nodes[number]} if yes else set()
            case "fetch":
                digest = bytes([number % 3]) * 32
                commands = machine.handle(Fetched(nodes[number], digest, yes), now)
                asked.discard(Fetch(nodes[number], digest))
                covered |= {digest} if yes else set()
            case _:
                now += number * 10
                commands = machine.handle(Tick(), now)
        asked |= {command for command in commands if not isinstance(command, Changed)}
        assert len([command for command in commands if not isinstance(command, Changed)]) <= AT_ONCE
        assert {node for node, posture in machine.postures.items() if posture is Posture.ATTESTED} <= shown
        assert all(digests <= covered for digests in machine.weights.values())
        wakeup = machine.next_wakeup()
        assert wakeup is None or wakeup > now, "a shell that waits for this would spin"


def _node(command: Command) -> NodeId:
    assert isinstance(command, Challenge | Fetch)
    return command.node


def test_covered_digests_are_bounded() -> None:
    machine = ledger()
    for number in range(MOST_DIGESTS + 10):
        machine.handle(Fetched(A, number.to_bytes(32, "big"), True), 0.0)
    assert len(machine._covered) == MOST_DIGESTS
