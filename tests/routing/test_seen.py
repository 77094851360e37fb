"""Jobs met before: refused a second time, forgotten by age and by number."""

from __future__ import annotations

from meshnode.routing import Seen
from tests.routing.build import node


def test_a_job_is_new_once_and_again_after_its_age() -> None:
    seen = Seen(10, 60.0)
    key = (node(1), "j", 1)
    assert seen.first(key, 0.0)
    assert not seen.first(key, 59.0)
    assert seen.first((node(1), "j", 2), 59.0), "another attempt is another job"
    assert seen.first(key, 60.0)


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    seen = Seen(3, 60.0)
    for number in range(5):
        assert seen.first((node(number), "j", 1), float(number))
        assert len(seen) <= 3
    assert not seen.first((node(4), "j", 1), 5.0)
    assert seen.first((node(0), "j", 1), 5.0)
