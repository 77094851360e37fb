from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import BadRequest, ProtocolViolation
from meshnode.mux.headers import REQUEST, RESPONSE, TRAILERS, incoming, outgoing

GOOD = [(":method", "POST"), (":path", "/x"), ("meshnode-job", "1")]


def test_a_good_block_goes_out_and_comes_in_unchanged() -> None:
    block = outgoing(GOOD, REQUEST)
    assert incoming(block, REQUEST) == tuple(GOOD)


@pytest.mark.parametrize(
    "bad",
    [
        [(":method", "POST")],
        [*GOOD, (":path", "/y")],
        [("a", "b"), *GOOD],
        [*GOOD, ("Upper", "b")],
        [*GOOD, ("", "b")],
        [*GOOD, ("a b", "c")],
        [*GOOD, ("a\nb", "c")],
        [*GOOD, ("a", "b\nc")],
        [*GOOD, ("a", "b\rc")],
        [*GOOD, ("a", "b\x00c")],
        [*GOOD, ("a", " b")],
        [*GOOD, ("a", "b\t")],
        [(":status", "200"), *GOOD],
        [*GOOD[:2], (":protocol", "x")],
    ],
)
def test_a_bad_block_stays_here_and_from_a_peer_is_a_violation(bad: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequest):
        outgoing(bad, REQUEST)
    with pytest.raises(ProtocolViolation):
        incoming([(name.encode(), value.encode()) for name, value in bad], REQUEST)


def test_pseudo_headers_have_their_kind_of_block() -> None:
    assert outgoing([(":status", "200")], RESPONSE)
    with pytest.raises(BadRequest):
        outgoing([("a", "b")], RESPONSE)
    with pytest.raises(BadRequest):
        outgoing([(":status", "200")], TRAILERS)
    assert outgoing([], TRAILERS) == []


def test_bytes_that_are_not_text_are_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="UTF-8"):
        incoming([(b"a", b"\xff")], TRAILERS)


@given(st.lists(st.tuples(st.text("ab:A \n\t", max_size=4), st.text("ab \r\n\x00\té", max_size=4)), max_size=4))
@settings(deadline=None, max_examples=300)
def test_nothing_passes_that_h2_would_refuse(extra: list[tuple[str, str]]) -> None:
    block = [(name.encode(), value.encode()) for name, value in [(":status", "200"), *extra]]
    try:
        incoming(block, RESPONSE)
    except ProtocolViolation:
        return
    flags = HeaderValidationFlags(is_client=True, is_trailer=False, is_response_header=True, is_push_promise=False)
    try:
        list(validate_headers(block, flags))
    except ProtocolError as error:
        pytest.fail(f"h2 refuses {block}: {error}")
