"""Keys come, are found by themselves alone, end, and never open a door by ending."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.access import MOST_KEYS, KeyRecord, Ring, Scope, Wish, digest_of, key_of
from meshnode.errors import BadRequest, Conflict
from meshnode.model.job import Label, Priority


def key(number: int) -> str:
    return key_of(number.to_bytes(32, "big"))


def ring_of(*numbers: int, now: float = 1000.0, **wish: Any) -> Ring:
    ring = Ring()
    for number in numbers:
        ring, _ = ring.added(Wish(owner="ann", **wish), f"{number:08x}", digest_of(key(number)) or b"", now)
    return ring


def test_a_key_is_who_it_was_made_for() -> None:
    ring = ring_of(
        1, scopes=(Scope.INFER,), models=("m",), label=Label.SENSITIVE, priority="low", timeout_s=5.0,
        first_token_s=3.0, silence_s=2.0,
    )  # fmt: skip
    found = ring.caller(key(1), 1000.0)
    assert found is not None
    assert (found.key, found.owner, found.scopes, found.models) == ("00000001", "ann", {Scope.INFER}, ("m",))
    assert (found.label, found.priority) == (Label.SENSITIVE, Priority.LOW)
    assert (found.timeout_s, found.first_token_s, found.silence_s) == (5.0, 3.0, 2.0)


@pytest.mark.parametrize("other", ["", "00000001", key(2), key(1)[:-1], key(1).lower()])
def test_nothing_else_is_a_key(other: str) -> None:
    assert ring_of(1).caller(other, 1000.0) is None


def test_a_hash_that_was_read_from_the_file_opens_nothing() -> None:
    digest = ring_of(1).records[0].digest
    assert ring_of(1).caller(digest.hex(), 1000.0) is None
    assert ring_of(1).caller(key_of(digest), 1000.0) is None


def test_a_key_ends_when_it_was_said_to() -> None:
    ring = ring_of(1, now=1000.0, expires_s=60.0)
    assert ring.caller(key(1), 1059.9) is not None
    assert ring.caller(key(1), 1060.0) is None
    assert ring.records[0].state(1060.0) == "expired"


def test_a_revoked_key_opens_nothing_and_the_others_do() -> None:
    ring, ended = ring_of(1, 2).revoked("00000001", 1001.0)
    assert ended.state(1001.0) == "revoked"
    assert ring.caller(key(1), 1001.0) is None
    assert ring.caller(key(2), 1001.0) is not None
    again, same = ring.revoked("00000001", 2000.0)
    assert (again.records, same) == (ring.records, ended)


def test_only_what_is_good_no_more_is_forgotten() -> None:
    ring = ring_of(1)
    with pytest.raises(Conflict, match="revoke it first"):
        ring.forgotten("00000001", 1000.0)
    ring, _ = ring.revoked("00000001", 1000.0)
    assert len(ring) == 1, "a door that is shut stays so"
    ring, _ = ring.forgotten("00000001", 1000.0)
    assert len(ring) == 0


@pytest.mark.parametrize("deed", [Ring.revoked, Ring.forgotten])
def test_an_unknown_id_is_said_to_be_one(deed: Any) -> None:
    with pytest.raises(BadRequest, match="keys list"):
        deed(ring_of(1), "ffffffff", 0.0)


def test_keys_are_bounded() -> None:
    with pytest.raises(Conflict, match="forget"):
        ring_of(*range(MOST_KEYS + 1))


def test_neither_key_nor_hash_is_told() -> None:
    record = ring_of(1).records[0]
    for said in (repr(record), repr(record.told(0.0)), str(record)):
        assert record.digest.hex() not in said and repr(record.digest) not in said and key(1) not in said
    assert "digest" not in record.told(0.0)


@pytest.mark.parametrize("owner", ["", " ann", "ann ", "a\nb", "a\x00", "x" * 65])
def test_an_owner_is_a_name_that_a_header_carries(owner: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"owner": owner}, Wish)


class Lives(RuleBasedStateMachine):
    """Any order of making, revoking and forgetting: a key opens exactly while it is made, unrevoked and unexpired."""

    def __init__(self) -> None:
        super().__init__()
        self.ring, self.now, self.made = Ring(), 1000.0, 0
        self.until: dict[int, float] = {}
        self.kept: set[int] = set()

    @rule(expires_s=st.one_of(st.none(), st.integers(1, 50)))
    def add(self, expires_s: int | None) -> None:
        self.made += 1
        wish = Wish(owner="ann", expires_s=None if expires_s is None else float(expires_s))
        self.ring, _ = self.ring.added(wish, f"{self.made:08x}", digest_of(key(self.made)) or b"", self.now)
        self.until[self.made] = float("inf") if expires_s is None else self.now + expires_s
        self.kept.add(self.made)

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        if self.kept:
            number = data.draw(st.sampled_from(sorted(self.kept)))
            self.ring, _ = self.ring.revoked(f"{number:08x}", self.now)
            self.until[number] = min(self.until[number], self.now)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if self.kept:
            number = data.draw(st.sampled_from(sorted(self.kept)))
            try:
                self.ring, _ = self.ring.forgotten(f"{number:08x}", self.now)
            except Conflict:
                assert self.now < self.until[number]
            else:
                assert self.now >= self.until[number]
                self.kept.discard(number)

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def opens_while_it_lives(self) -> None:
        for number in range(1, self.made + 1):
            found = self.ring.caller(key(number), self.now)
            assert (found is not None) == (number in self.kept and self.now < self.until[number])
        assert len(self.ring) == len(self.kept)


TestLives = Lives.TestCase
TestLives.settings = budget(max_examples=40, stateful_step_count=25, deadline=None)


@given(st.text(max_size=60))
def test_any_text_is_looked_up_without_harm(text: str) -> None:
    assert ring_of(1).caller(text, 0.0) is None


def test_a_record_of_another_form_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "x", "owner": "a", "digest": b"d" * 32, "made_at": 1}, KeyRecord, builtin_types=(bytes,))
