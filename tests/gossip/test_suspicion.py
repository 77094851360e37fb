from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.gossip.suspicion import lasts_s, longest_s


def test_it_grows_with_the_logarithm_of_the_mesh() -> None:
    assert [longest_s(4, 1.0, nodes) for nodes in (0, 1, 10, 100, 10_000)] == [4.0, 4.0, 4.0, 8.0, 16.0]
    assert longest_s(4, 5.0, 10) == 20.0


def test_alone_it_lasts_longest_and_three_who_agree_halve_it() -> None:
    assert lasts_s(4.0, 0, 0) == lasts_s(4.0, 0, 8) == 4.0
    assert lasts_s(4.0, 3, 8) == lasts_s(4.0, 7, 8) == 2.0
    assert lasts_s(4.0, 1, 1) == 2.0, "all who could tell"


@given(st.floats(0.1, 100.0), st.integers(0, 20), st.integers(0, 20))
def test_more_confirmations_never_make_it_longer(longest: float, confirmed: int, witnesses: int) -> None:
    lasts = lasts_s(longest, confirmed, witnesses)
    assert longest / 2 <= lasts <= longest
    assert lasts_s(longest, confirmed + 1, witnesses) <= lasts
