"""How a target waits after failing, and which go first."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.mesh import MeshSection
from meshnode.gossip.backoff import FLOOR_S
from meshnode.gossip.targets import DAY_S, DEAD_MAX_S, DEAD_MIN_S, SOON, Kind, Target

SECTION = MeshSection()
NOW = 1000.0


def bounds(kind: Kind, failed: int) -> tuple[float, float]:
    """The least and the longest wait of a kind that has failed so often."""
    match kind:
        case Kind.DEAD:
            return DEAD_MIN_S if failed >= SOON else SECTION.redial_min_s, DEAD_MAX_S
        case Kind.HOPED:
            return SECTION.redial_min_s, DEAD_MAX_S
        case _:
            return SECTION.redial_min_s, SECTION.redial_max_s


@given(st.sampled_from(Kind), st.integers(0, 40), st.integers())
def test_a_wait_stays_within_the_bounds_of_its_kind(kind: Kind, failed: int, seed: int) -> None:
    target = Target(kind, (), 0.0, failures=failed)
    target.wait(random.Random(seed), SECTION, NOW)
    least, most = bounds(kind, failed)
    assert max(least, FLOOR_S) <= target.due - NOW <= most
    assert target.failures == failed + 1


@pytest.mark.parametrize("kind", Kind)
def test_waits_grow_to_the_bound_of_the_kind(kind: Kind) -> None:
    longest: list[float] = []
    for failed in (0, 30):
        waits = []
        for seed in range(200):
            target = Target(kind, (), 0.0, failures=failed)
            target.wait(random.Random(seed), SECTION, NOW)
            waits.append(target.due - NOW)
        longest.append(max(waits))
    least, most = bounds(kind, 0)
    assert longest[0] <= 2 * least
    assert longest[1] > 0.9 * most


@given(st.integers())
def test_one_whose_advert_ended_is_tried_rarely_and_for_a_day(seed: int) -> None:
    target = Target(Kind.KNOWN, ("a:1",), 0.0, failures=9)
    target.lost(random.Random(seed), NOW)
    assert (target.kind, target.failures, target.until) == (Kind.DEAD, SOON, NOW + DAY_S)
    assert NOW + DEAD_MIN_S <= target.due <= NOW + 2 * DEAD_MIN_S


@given(st.integers(0, SOON - 1), st.floats(0.0, 2 * NOW))
def test_one_whose_advert_ended_while_it_was_tried_soon_goes_on_being_tried_soon(failed: int, due: float) -> None:
    target = Target(Kind.KNOWN, ("a:1",), due, failures=failed)
    target.lost(random.Random(0), NOW)
    assert (target.kind, target.failures, target.until, target.due) == (Kind.DEAD, failed, NOW + DAY_S, due)


def test_news_makes_it_due_and_never_later_than_it_was() -> None:
    target = Target(Kind.KNOWN, (), due=50.0, failures=9)
    target.found(60.0)
    assert (target.failures, target.due) == (0, 50.0)
    target.found(40.0)
    assert target.due == 40.0


def test_what_people_named_goes_first_and_what_strangers_say_last() -> None:
    assert sorted(Kind, key=lambda kind: kind.value) == [Kind.NAMED, Kind.KNOWN, Kind.HOPED, Kind.DEAD, Kind.HINT]
