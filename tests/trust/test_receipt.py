"""Receipts: what the server signed, nothing else, and every difference from what the origin knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import DecodeError, EvidenceRefused
from meshnode.trust import Expected, SignedReceipt
from meshnode.trust.receipt import MAX_RECEIPT_BYTES, mismatch
from tests.trust.people import ORIGIN, SERVER, STRANGER, receipt, sha, signed

EXPECTED = Expected("job-1.abc", ORIGIN.id, SERVER.id, sha(b"request"), sha(b"answer"))


def test_a_receipt_comes_back_from_its_trailer() -> None:
    again = SignedReceipt.of_trailer(signed().trailer)
    assert again.check() == receipt()
    assert mismatch(receipt(), EXPECTED) == ""


def test_a_receipt_by_somebody_else_is_refused() -> None:
    with pytest.raises(EvidenceRefused, match="not signed"):
        signed(by=STRANGER).check()


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_changed_bit_is_noticed(at: int, bit: int) -> None:
    body = bytearray(signed().body)
    body[at % len(body)] ^= 1 << bit
    with pytest.raises((EvidenceRefused, DecodeError)):
        SignedReceipt(bytes(body), signed().signature).check()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"job": "job-2"}, "job"),
        ({"origin": STRANGER.public}, "origin"),
        ({"server": STRANGER.public}, "server"),
        ({"request": sha(b"other")}, "request"),
        ({"answer": sha(b"other")}, "answer"),
    ],
)
def test_a_receipt_for_something_else_is_a_mismatch(changes: dict[str, object], word: str) -> None:
    assert mismatch(receipt(**changes), EXPECTED) == word


def test_all_differences_are_named() -> None:
    assert mismatch(receipt(job="x", answer=sha(b"")), EXPECTED) == "job, answer"


@pytest.mark.parametrize("text", ["", "!", "AAAA", "A" * (2 * MAX_RECEIPT_BYTES + 4), "é"])
def test_a_trailer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        SignedReceipt.of_trailer(text)


def test_the_largest_receipt_fits_a_trailer() -> None:
    largest = signed(job="j" * 128, model="m" * 128, quant="q" * 128, tokens=2**40)
    assert len(largest.body) <= MAX_RECEIPT_BYTES
    assert SignedReceipt.of_trailer(largest.trailer) == largest
