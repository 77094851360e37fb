"""At most one delivered answer for an idempotency key, within bounded memory."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.dispatch.keys import Keys
from meshnode.dispatch.replay import Pool, Replay
from meshnode.dispatch.shared import Run
from meshnode.errors import Conflict, Overloaded
from tests.routing.build import job

POOL = Pool(1 << 20)
A, B = ("t", "a"), ("t", "b")


def run(*pieces: bytes, whole: bool = True, status: int = 200) -> Run:
    made = Run(job(), Replay(POOL, 1000))
    made.status, made.whole, made.over = status, whole, True
    for piece in pieces:
        made.replay.add(piece, 0)
    return made


def answered(keys: Keys, key: tuple[str, str], made: Run, now: float = 0.0, *, keep: bool = True) -> None:
    keys.began(key, "m", made)
    keys.ended(key, now, keep=keep)


def test_a_key_runs_is_answered_and_expires() -> None:
    keys, made = Keys(10, 600.0, 1000), run(b"x")
    assert keys.find(A, "m", 0.0) is None
    keys.began(A, "m", made)
    assert keys.find(A, "m", 1.0) is made
    keys.ended(A, 2.0, keep=True)
    assert keys.find(A, "m", 601.9) is made
    assert keys.find(B, "m", 0.0) is None
    assert keys.find(A, "m", 602.0) is None
    assert len(keys) == 0


def test_another_request_under_the_same_key_is_refused() -> None:
    keys = Keys(10, 600.0, 1000)
    answered(keys, A, run(b"x"))
    with pytest.raises(Conflict, match="another request"):
        keys.find(A, "other", 1.0)


@pytest.mark.parametrize("made", [run(b"x", whole=False), run(b"x", status=400)])
def test_what_delivered_no_answer_frees_its_key(made: Run) -> None:
    keys = Keys(10, 600.0, 1000)
    answered(keys, A, made)
    assert keys.find(A, "m", 1.0) is None


def test_an_answer_that_is_not_kept_is_not_run_again() -> None:
    keys, made = Keys(10, 600.0, 1000), run(b"x")
    answered(keys, A, made, keep=False)
    assert not made.kept
    made.replay.drop()
    with pytest.raises(Conflict, match="not kept"):
        keys.find(A, "m", 1.0)


def test_more_keys_than_can_be_remembered_are_refused() -> None:
    keys = Keys(1, 600.0, 1000)
    answered(keys, A, run(b"x"))
    with pytest.raises(Overloaded):
        keys.find(B, "m", 1.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400), st.booleans(), st.booleans()), max_size=40))
def test_answers_are_bounded_and_no_key_is_delivered_twice(asked: list[tuple[int, int, bool, bool]]) -> None:
    keys, delivered, held = Keys(100, 600.0, 1000), set[int](), list[Run]()
    for number, size, whole, keep in asked:
        try:
            found = keys.find(("t", str(number)), "m", 1.0)
        except Conflict:
            assert number in delivered
            continue
        assert (found is not None) == (number in delivered)
        if found is None:
            made = run(b"x" * size, whole=whole)
            held.append(made)
            answered(keys, ("t", str(number)), made, 1.0, keep=keep)
            if not made.kept:
                made.replay.drop()
            if whole:
                delivered.add(number)
    assert sum(made.replay.held_bytes for made in held) <= 1000


def test_making_room_cuts_nobody_who_still_reads() -> None:
    keys, made = Keys(10, 600.0, 10), run(b"x" * 6)
    made.join()
    answered(keys, A, made)
    answered(keys, B, run(b"y" * 6))
    assert made.replay.at(0) == b"x" * 6
    made.leave()
    assert made.replay.held_bytes == 0
    with pytest.raises(Conflict, match="not kept"):
        keys.find(A, "m", 1.0)


def test_one_client_takes_no_room_from_others() -> None:
    keys = Keys(12, 600.0, 1000)
    for tenant, many in (("greedy", 6), ("second", 3), ("third", 1)):
        for number in range(many):
            assert keys.find((tenant, str(number)), "m", 0.0) is None
            answered(keys, (tenant, str(number)), run(b"x"))
        if many > 1:
            with pytest.raises(Overloaded, match=f"this client has used {many}"):
                keys.find((tenant, "more"), "m", 1.0)
            assert keys.find((tenant, "0"), "m", 1.0) is not None, "what it was promised holds"
    assert keys.find(("greedy", "more"), "m", 600.0) is None, "its keys have expired"


def test_what_runs_counts_and_what_failed_does_not() -> None:
    keys = Keys(2, 600.0, 1000)
    keys.began(A, "m", run(b"x", whole=False))
    with pytest.raises(Overloaded):
        keys.find(B, "m", 1.0)
    keys.ended(A, 1.0, keep=True)
    assert keys.find(B, "m", 1.0) is None


def test_large_answers_push_out_their_own_clients_first() -> None:
    keys = Keys(100, 600.0, 1000)
    answered(keys, ("small", "a"), run(b"x" * 100))
    for number in range(20):
        answered(keys, ("large", str(number)), run(b"y" * 300))
    assert keys.find(("small", "a"), "m", 1.0) is not None
    with pytest.raises(Conflict, match="not kept"):
        keys.find(("large", "0"), "m", 1.0)


class Table(RuleBasedStateMachine):
    """However many clients use whichever keys: no bound is passed, and what is counted is what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.now = Keys(12, 600.0, 1000), 0.0
        self.running: dict[tuple[str, str], int] = {}

    @rule(tenant=st.sampled_from("abcde"), key=st.sampled_from("0123456"), size=st.integers(1, 400))
    def ask(self, tenant: str, key: str, size: int) -> None:
        try:
            found = self.keys.find((tenant, key), "m", self.now)
        except (Conflict, Overloaded):
            return
        if found is None:
            self.keys.began((tenant, key), "m", run(b"x" * size))
            self.running[tenant, key] = size

    @rule(data=st.data(), whole=st.booleans(), keep=st.booleans())
    def end(self, data: st.DataObject, whole: bool, keep: bool) -> None:
        if self.running:
            key = data.draw(st.sampled_from(sorted(self.running)))
            del self.running[key]
            known = self.keys.find(key, "m", self.now)
            assert known is not None
            known.whole = whole
            self.keys.ended(key, self.now, keep=keep)
            if not known.kept:
                known.replay.drop()

    @rule(seconds=st.integers(1, 400))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def is_bounded(self) -> None:
        keys = self.keys
        there = Counter(tenant for tenant, _ in (*keys._running, *keys._answered))
        assert {name: one.keys for name, one in keys._tenants.items()} == there
        assert len(keys) <= 12 and all(count <= 6 for count in there.values())
        assert keys._bytes == sum(one.bytes for one in keys._tenants.values()) <= 1000
        assert all(one.bytes == sum(one.sizes.values()) for one in keys._tenants.values())


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
