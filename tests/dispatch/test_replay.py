"""What several read is kept from its start while it fits, and never more than the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.dispatch.replay import Pool, Replay
from meshnode.errors import FellBehind


def test_it_is_read_from_the_start() -> None:
    replay = Replay(Pool(100), 10)
    for piece in (b"abc", b"def"):
        replay.add(piece, replay.came)
    assert [replay.at(number) for number in range(3)] == [b"abc", b"def", None]
    assert replay.from_start


def test_what_nobody_has_had_is_not_forgotten() -> None:
    replay = Replay(Pool(100), 5)
    for piece in (b"abc", b"def", b"ghi"):
        replay.add(piece, 1)
    assert [replay.at(number) for number in (1, 2)] == [b"def", b"ghi"]


def test_whoever_is_too_slow_falls_behind() -> None:
    replay = Replay(Pool(100), 5)
    replay.add(b"abc", 0)
    replay.add(b"def", 1)
    assert not replay.from_start
    assert replay.at(1) == b"def"
    with pytest.raises(FellBehind):
        replay.at(0)


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=30)), max_size=60))
def test_memory_is_bounded_each_and_together(pieces: list[tuple[int, bytes]]) -> None:
    pool = Pool(60)
    replays = [Replay(pool, 40) for _ in range(3)]
    for which, piece in pieces:
        replays[which].add(piece, replays[which].came)
        assert replays[which].last == piece
        assert replays[which].held_bytes <= 40
        assert pool.held_bytes == sum(replay.held_bytes for replay in replays) <= 60 + 3 * 30
    for replay in replays:
        replay.drop()
    assert pool.held_bytes == 0
