from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import DecodeError
from meshnode.gossip.facts import Facts, facts
from meshnode.gossip.messages import Ack, decode_message, encode_message
from meshnode.model import codec


@given(*[st.integers(-5, 2**40)] * 3, st.floats(allow_nan=False))
def test_any_load_fits_the_wire(free: int, queued: int, in_flight: int, wait_s: float) -> None:
    made = facts(free, queued, in_flight, wait_s)
    assert decode_message(encode_message(Ack(1, made))) == Ack(1, made)


def test_the_wait_is_in_seconds_where_it_is_used() -> None:
    assert facts(0, 3, 2, 1.5) == Facts(0, 3, 2, 1500)
    assert facts(0, 3, 2, 1.5).expected_wait_s == 1.5


@pytest.mark.parametrize(
    "wrong", [[0, 0, 0], [0, 0, 0, -1], [0, 0, 0, 86_400_001], [10**6 + 1, 0, 0, 0], [0.5, 0, 0, 0]]
)
def test_what_is_out_of_bounds_is_refused(wrong: list[object]) -> None:
    with pytest.raises(DecodeError):
        decode_message(codec.encode(["ack", 1, wrong]))
