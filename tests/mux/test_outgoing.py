from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.mux.outgoing import Outgoing


@given(st.lists(st.binary(max_size=50) | st.integers(0, 80), max_size=40))
@settings(deadline=None, max_examples=150)
def test_bytes_come_out_in_the_order_they_went_in(steps: list[bytes | int]) -> None:
    queue = Outgoing()
    put = took = b""
    for step in steps:
        if isinstance(step, bytes):
            queue.put(step)
            put += step
        else:
            piece = queue.take(step)
            assert len(piece) == min(step, len(put) - len(took))
            took += piece
        assert queue.size == len(put) - len(took)
    assert put.startswith(took)
    assert took + queue.take(len(put)) == put


def test_a_negative_count_takes_nothing() -> None:
    queue = Outgoing()
    queue.put(b"abc")
    assert queue.take(-5) == b""
    assert queue.drop() == 3
