"""Owner claims: for one attempt of one job with these bytes at one server, as urgent and as long as its origin asked,
once, for minutes, and by its origin."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.trust.claim import LIFETIME_S, MAX_CHARACTERS, MOST_MS, Claim, SignedClaim, Used, different
from tests.trust.people import NOW, ORIGIN, SERVER, STRANGER, sha

CLAIM = Claim(
    "ann", "job-1.abc", 1, "/v1/chat/completions", ORIGIN.public, SERVER.public, sha(b'{"model":"m"}'), 1, 60_000, NOW
)  # fmt: skip
OTHERS: dict[str, st.SearchStrategy[object]] = {
    "owner": st.text(min_size=1, max_size=64),
    "job": st.text(min_size=1, max_size=128),
    "attempt": st.integers(1, 100),
    "route": st.text(max_size=128),
    "origin": st.binary(min_size=32, max_size=32),
    "server": st.binary(min_size=32, max_size=32),
    "body": st.binary(max_size=200).map(sha),
    "tier": st.integers(0, 2),
}


def changed(**parts: object) -> Claim:
    return msgspec.structs.replace(CLAIM, **parts)


def test_a_claim_comes_back_from_its_header_and_holds() -> None:
    SignedClaim.of_header(SignedClaim.sign(CLAIM, ORIGIN.sign).header).check(CLAIM)


@given(st.data())
@settings(deadline=None)
def test_a_claim_moved_to_anything_else_is_refused(data: st.DataObject) -> None:
    """To another body, job, attempt, route, server, owner, origin or tier."""
    name = data.draw(st.sampled_from(sorted(OTHERS)))
    value = data.draw(OTHERS[name].filter(lambda other: other != getattr(CLAIM, name)))
    with pytest.raises(EvidenceRefused, match=f"for another {name}"):
        SignedClaim.sign(CLAIM, ORIGIN.sign).check(changed(**{name: value}))


@given(st.integers(0, MOST_MS))
@settings(deadline=None)
def test_a_claim_holds_for_less_time_than_its_origin_gave_and_for_no_more(remaining_ms: int) -> None:
    signed = SignedClaim.sign(CLAIM, ORIGIN.sign)
    if remaining_ms <= CLAIM.remaining_ms:
        signed.check(changed(remaining_ms=remaining_ms))
    else:
        with pytest.raises(EvidenceRefused, match=f"gives it 60000 ms, and it comes with {remaining_ms} ms"):
            signed.check(changed(remaining_ms=remaining_ms))


@given(st.integers(-(10**6), 10**6))
@settings(deadline=None)
def test_a_claim_holds_for_its_time_alone(seconds: int) -> None:
    signed = SignedClaim.sign(CLAIM, ORIGIN.sign)
    if abs(seconds) <= LIFETIME_S:
        signed.check(changed(at=NOW + seconds))
    else:
        with pytest.raises(EvidenceRefused, match="is a clock wrong"):
            signed.check(changed(at=NOW + seconds))


def test_a_claim_by_somebody_else_is_refused() -> None:
    with pytest.raises(EvidenceRefused, match="not signed by"):
        SignedClaim.sign(CLAIM, STRANGER.sign).check(CLAIM)


def test_a_signature_of_another_context_is_none() -> None:
    signed = SignedClaim.sign(CLAIM, lambda _, body: ORIGIN.sign(b"meshnode receipt 1\x00", body))
    with pytest.raises(EvidenceRefused, match="not signed by"):
        signed.check(CLAIM)


@given(st.integers(0, 10_000), st.integers(0, 7))
@settings(deadline=None)
def test_a_changed_bit_is_noticed(at: int, bit: int) -> None:
    signed = SignedClaim.sign(CLAIM, ORIGIN.sign)
    body = bytearray(signed.body)
    body[at % len(body)] ^= 1 << bit
    with pytest.raises((EvidenceRefused, DecodeError)):
        SignedClaim(bytes(body), signed.signature).check(CLAIM)


@pytest.mark.parametrize("text", ["", "!", "AAAA", "A" * (MAX_CHARACTERS + 4), "é", "\ud800"])
def test_a_header_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        SignedClaim.of_header(text)


def test_the_largest_claim_fits_a_header() -> None:
    largest = changed(
        owner="\U0001f600" * 64, job="j" * 128, route="r" * 128, attempt=100, tier=2, remaining_ms=MOST_MS, at=2**40
    )
    header = SignedClaim.sign(largest, ORIGIN.sign).header
    assert len(header) <= MAX_CHARACTERS
    SignedClaim.of_header(header).check(largest)


def test_the_parts_that_differ_are_named() -> None:
    assert different(CLAIM, changed(at=1)) == ""
    assert different(CLAIM, changed(job="x", body=sha(b""))) == "job, body"


def test_a_claim_counts_once_however_it_is_shown_again() -> None:
    used = Used()
    assert used.first(CLAIM, 0.0)
    assert not used.first(CLAIM, 0.0)
    # Made by a clock that is ahead as far as it may be, it is fresh for twice its lifetime.
    assert not used.first(CLAIM, 2.0 * LIFETIME_S)
    assert used.first(changed(attempt=2), 0.0)
    assert used.first(changed(job="job-2"), 0.0)
    assert used.first(changed(origin=STRANGER.public), 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0.0, 1.0, 100.0, 2.0 * LIFETIME_S])), max_size=60),
    st.integers(1, 8),
)
@settings(deadline=None)
def test_what_is_remembered_is_bounded_and_nothing_is_forgotten_early(
    shown: list[tuple[int, float]], most: int
) -> None:
    used, now = Used(most), 0.0
    counted: dict[int, float] = {}
    for number, passed_s in shown:
        now += passed_s
        fresh = [at for at in counted.values() if now - at <= 2.0 * LIFETIME_S]
        if used.first(changed(job=f"job-{number}"), now):
            assert number not in counted or now - counted[number] > 2.0 * LIFETIME_S
            assert len(fresh) < most
            counted[number] = now
        assert len(used) <= most
