from __future__ import annotations

from meshnode.config.mesh import MeshSection
from meshnode.mux.events import StreamKey
from meshnode.mux.streams import Half, Stream
from meshnode.mux.unread import Unread

HALF = Half(0, mine=True, section=MeshSection())


def stream(unread: Unread, number: int, size: int, since: float) -> Stream:
    made = Stream(StreamKey(number), HALF)
    made.unread, made.unread_since = size, since
    unread.total += size
    return made


def test_whoever_is_unread_longest_is_given_up_first() -> None:
    unread = Unread(100)
    a, b, c = stream(unread, 2, 30, 5.0), stream(unread, 4, 60, 3.0), stream(unread, 6, 0, 1.0)
    assert unread.longest([a, b, c]) is b
    unread.forget(b)
    assert unread.total == 30
    assert unread.longest([a, b, c]) is a
    unread.forget(a)
    assert unread.longest([a, b, c]) is None


def test_a_stream_that_is_over_counts_until_it_is_read() -> None:
    unread = Unread(100)
    a, b = stream(unread, 2, 60, 1.0), stream(unread, 4, 30, 2.0)
    unread.over(a)
    assert unread.longest([b]) is a
    unread.read_late(a.key, 20)
    assert unread.late(a.key) is a
    unread.read_late(a.key, 40)
    assert unread.late(a.key) is None
    assert unread.total == 30


def test_a_stream_that_was_read_in_time_is_not_kept() -> None:
    unread = Unread(100)
    a = stream(unread, 2, 0, 0.0)
    unread.over(a)
    assert unread.late(a.key) is None
    unread.read_late(a.key, 1)
    assert unread.total == 0


def test_what_is_forgotten_late_is_not_kept_either() -> None:
    unread = Unread(100)
    a = stream(unread, 2, 10, 0.0)
    unread.over(a)
    unread.forget(a)
    assert unread.late(a.key) is None
    assert unread.total == 0
