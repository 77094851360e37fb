"""What an advert says of the node's speed follows what was measured, and changes only when that is news."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.advert import ModelOffer
from meshnode.slots.speed import MOST_MODELS, Speed, Speeds

_PACES = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=200)


def test_nothing_is_told_before_anything_was_measured() -> None:
    assert Speeds().of("m") == Speed(0, 0)


def test_the_first_answer_is_told_in_its_units() -> None:
    speeds = Speeds()
    speeds.first_token("m", 1.25, 0.5)
    speeds.finished("m", 100, 2.0)
    assert speeds.of("m") == Speed(400, 20_000)


def test_an_answer_of_one_token_says_nothing_of_the_pace() -> None:
    speeds = Speeds()
    speeds.finished("m", 0, 2.0)
    assert speeds.of("m").decode_us == 0


def test_a_small_change_is_not_told() -> None:
    speeds = Speeds()
    speeds.finished("m", 1, 0.020)
    told = speeds.of("m")
    for _ in range(100):
        speeds.finished("m", 1, 0.026)
    assert speeds.of("m") == told


def test_an_engine_that_became_twice_as_slow_is_told() -> None:
    speeds = Speeds()
    speeds.finished("m", 1, 0.020)
    assert speeds.of("m").decode_us == 20_000
    for _ in range(100):
        speeds.finished("m", 1, 0.040)
    assert 28_000 <= speeds.of("m").decode_us <= 40_000


def test_one_slow_answer_is_not_told() -> None:
    speeds = Speeds()
    for _ in range(10):
        speeds.finished("m", 1, 0.020)
    told = speeds.of("m")
    speeds.finished("m", 1, 0.090)
    assert speeds.of("m") == told


@given(_PACES)
def test_what_is_told_lies_within_what_was_measured(paces: list[float]) -> None:
    speeds = Speeds()
    for pace in paces:
        speeds.finished("m", 1, pace)
        speeds.of("m")
    told = speeds.of("m").decode_us
    assert min(paces) * 1e6 / 1.41 <= told <= max(paces) * 1e6 * 1.41


def test_models_beyond_what_an_advert_lists_are_not_kept() -> None:
    speeds = Speeds()
    for number in range(MOST_MODELS + 10):
        speeds.finished(f"m{number}", 1, 0.02)
    assert speeds.of(f"m{MOST_MODELS - 1}").decode_us
    assert speeds.of(f"m{MOST_MODELS}").decode_us == 0


def test_offers_are_marked_with_their_own_speed() -> None:
    speeds = Speeds()
    speeds.first_token("fast", 1.0, 0.1)
    fast, unknown = speeds.marked((ModelOffer("fast"), ModelOffer("unknown")))
    assert (fast.prefill_ms, fast.decode_us) == (100, 0)
    assert unknown == ModelOffer("unknown")


def test_what_a_first_token_usually_takes_is_known_once_it_was_measured() -> None:
    speeds = Speeds()
    assert speeds.first_token_s("m", 2.0) is None
    speeds.first_token("m", 0.5, 0.2)
    assert speeds.first_token_s("m", 2.0) == 0.8
    speeds.finished("other", 10, 1.0)
    assert speeds.first_token_s("other", 2.0) is None
