from __future__ import annotations

from itertools import pairwise

import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PushPromiseFrame, RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation
from meshnode.mux.frames import PREFACE_BYTES, Budget, FrameCutter

FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=50).map(lambda data: DataFrame(1, data)),
        st.just(GoAwayFrame(0, last_stream_id=7, additional_data=b"why")),
        st.just(PingFrame(0, b"12345678")),
        st.just(RstStreamFrame(3)),
    ),
    max_size=8,
)


@given(frames=FRAMES, cuts=st.lists(st.integers(0, 400), max_size=6), preface=st.booleans())
@settings(deadline=None, max_examples=150)
def test_any_cut_gives_the_same_frames_without_goaway(frames: list[Frame], cuts: list[int], preface: bool) -> None:
    start = b"P" * PREFACE_BYTES if preface else b""
    wire = start + b"".join(frame.serialize() for frame in frames)
    cutter = FrameCutter(preface=preface)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    out, resets = b"", 0
    for begin, end in pairwise(edges):
        out += cutter.receive(wire[begin:end])
        resets += cutter.resets
    kept = [frame for frame in frames if not isinstance(frame, GoAwayFrame)]
    assert out == start + b"".join(frame.serialize() for frame in kept)
    assert cutter.gone_away == (len(kept) < len(frames))
    assert resets == sum(isinstance(frame, RstStreamFrame) for frame in frames)


def test_only_whole_frames_come_out() -> None:
    cutter = FrameCutter(preface=False)
    wire = DataFrame(1, b"hello").serialize()
    assert cutter.receive(wire[:-1]) == b""
    assert cutter.receive(wire[-1:]) == wire


@pytest.mark.parametrize("size", [16_385, 2**24 - 1])
def test_a_frame_too_large_is_refused_before_its_body_comes(size: int) -> None:
    with pytest.raises(ProtocolViolation):
        FrameCutter(preface=False).receive(size.to_bytes(3, "big") + bytes(6))


@pytest.mark.parametrize(
    "frame", [PushPromiseFrame(1, promised_stream_id=2), HeadersFrame(1, b"x", flags=["PRIORITY"])]
)
def test_kinds_that_links_do_not_use_are_refused(frame: Frame) -> None:
    with pytest.raises(ProtocolViolation):
        FrameCutter(preface=False).receive(frame.serialize())


def test_data_that_carries_nothing_counts_unless_it_ends_a_stream() -> None:
    cutter = FrameCutter(preface=False)
    cutter.receive(DataFrame(1, b"").serialize() * 3 + DataFrame(1, b"", flags=["END_STREAM"]).serialize())
    assert cutter.empties == 3


def test_a_budget_fills_with_time_and_with_good_behaviour() -> None:
    budget = Budget("things", burst=2, per_min=60)
    budget.spend(2, 0.0)
    with pytest.raises(ProtocolViolation, match="too many things"):
        budget.spend(1, 0.5)
    budget = Budget("things", burst=2, per_min=60)
    budget.spend(2, 0.0)
    budget.spend(1, 1.0)
    budget.earn(1)
    budget.spend(1, 1.0)
