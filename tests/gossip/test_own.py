from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode.config.gossip import GossipSection
from meshnode.errors import DecodeError
from meshnode.gossip.own import LAST, Own, fit
from meshnode.model.advert import MAX_ADVERT_BYTES, Advert, ModelOffer, Neighbour, pack, unpack
from tests.gossip.world import MESH, describe, fake_sign, node_id

ME = node_id(0)


def own(**section: float) -> Own:
    return Own(ME, GossipSection(**section), lambda body: fake_sign(ME, body), random.Random(1), 7)  # type: ignore[arg-type]


def test_the_first_description_is_said_at_once_with_counters_and_signature() -> None:
    said = own()
    assert said.mesh is None
    said.describe(describe(ME, "a"), 10.0)
    made = said.advert(10.0)
    assert made is not None
    advert, signed = made
    assert (advert.name, advert.incarnation, advert.lifetime_s, advert.gone) == ("a", 7, 180, False)
    assert unpack(signed.body) == advert
    assert fake_sign(ME, signed.body) == signed.signature
    assert said.advert(10.0) is None


def test_changes_within_settle_time_become_one_advert() -> None:
    said = own()
    said.describe(describe(ME, "a"), 10.0)
    said.advert(10.0)
    first = said.sequence
    for n in range(10):
        said.describe(describe(ME, f"b{n}"), 20.0 + n / 100)
        assert said.advert(20.0 + n / 100) is None
    assert said.due == pytest.approx(20.1)
    made = said.advert(20.1)
    assert made is not None
    assert (made[0].name, made[0].sequence) == ("b9", first + 1)
    assert said.due is not None and said.due > 70.0


def near(*peers: int) -> tuple[Neighbour, ...]:
    return tuple(Neighbour(node_id(peer), 1) for peer in peers)


def linked(*peers: int, **more: object) -> Advert:
    return replace(describe(ME, "a"), neighbours=near(*peers), **{"models": (ModelOffer("m", slots=2),), **more})


def told_links() -> Own:
    """It has just told its links, for the first time for long, at 100."""
    said = own(refresh_s=1000.0, links_s=2.0, links_max_s=8.0)
    said.describe(linked(), 0.0)
    assert said.advert(0.0) is not None
    said.describe(linked(1, 2, 3), 99.9)
    assert said.due == pytest.approx(100.0), "the first change waits for no more than those of its moment"
    assert said.advert(100.0) is not None
    return said


def test_links_that_change_again_are_gathered() -> None:
    said = told_links()
    for n, links in enumerate([(1, 2), (1,), (1, 4), (1, 4, 5)]):
        said.describe(linked(*links), 100.2 + n / 10)
        assert said.advert(100.2 + n / 10) is None
    assert said.due == pytest.approx(102.0)
    made = said.advert(102.0)
    assert made is not None
    assert made[0].neighbours == near(1, 4, 5)
    said.describe(linked(1, 4), 103.0)
    assert said.due == pytest.approx(106.0)


CHANGES = [
    {"models": (ModelOffer("m", slots=1),)},
    {"models": ()},
    {"posture": "attested"},
    {"draining": True},
    {"paused": True},
    {"addresses": ("10.0.0.1:6375",)},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_anything_but_links_is_never_held_back_and_takes_them_along(change: dict[str, object]) -> None:
    said = told_links()
    said.describe(linked(1, 2), 100.5)
    said.describe(linked(1, 2, **change), 100.6)
    assert said.due == pytest.approx(100.7)
    made = said.advert(100.7)
    assert made is not None
    assert made[0].neighbours == near(1, 2)
    assert all(getattr(made[0], what) == value for what, value in change.items())


def test_a_link_that_is_back_before_its_loss_was_told_is_no_news() -> None:
    said = told_links()
    renewal = said.due
    said.describe(linked(1, 2), 100.5)
    assert said.due == pytest.approx(102.0)
    said.describe(linked(1, 2, 3), 101.0)
    assert said.due == renewal


def test_who_is_suspected_or_overtaken_answers_at_once_whatever_its_links_do() -> None:
    said = told_links()
    said.describe(linked(1, 2), 100.5)
    assert said.refute(said.order, 100.6)
    assert said.due == 100.6
    said.describe(linked(1, 2, 3), 100.6)
    assert said.due == 100.6
    assert said.advert(100.6) is not None
    assert said.overtake((90, 1), 100.7)
    assert said.advert(100.7) is not None


def test_saying_the_same_again_is_no_change() -> None:
    said = own()
    said.describe(describe(ME, "a"), 10.0)
    said.advert(10.0)
    due = said.due
    said.describe(replace(describe(ME, "a"), sequence=99, gone=True), 11.0)
    assert said.due == due


def test_refreshes_keep_their_distance_and_differ() -> None:
    said = own()
    said.describe(describe(ME), 0.0)
    times = [0.0]
    said.advert(0.0)
    for _ in range(50):
        assert said.due is not None
        times.append(said.due)
        assert said.advert(said.due) is not None
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert all(54.0 <= gap <= 66.0 for gap in gaps)
    assert len(set(gaps)) > 40


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.0, 0.6), min_size=10, max_size=120))
def test_never_says_more_than_others_accept(waits: list[float]) -> None:
    said = own(advert_burst=4, advert_refill_s=1.0)
    now, spoken = 0.0, 0
    for n, wait in enumerate(waits):
        now += wait
        said.describe(describe(ME, str(n)), now)
        spoken += said.advert(now) is not None
        assert spoken <= 4 + now
    if said.due is not None:
        made = said.advert(max(said.due, now))
        assert made is None or made[0].name == str(len(waits) - 1), "the last word is said in the end"


def test_what_was_said_in_this_life_is_not_foreign_and_what_is_above_or_beside_it_is() -> None:
    said = own()
    assert said.foreign(said.order), "nothing was said under it"
    said.describe(describe(ME), 0.0)
    said.advert(0.0)
    first = said.sequence
    said.advert(100.0)
    assert [said.foreign((7, first + n)) for n in range(-1, 3)] == [True, False, False, True]
    assert said.foreign((8, 0))
    assert not said.foreign((6, first + 5)), "others think no more of it than of what is old"


def test_a_counter_that_was_lost_is_overtaken_in_a_new_incarnation() -> None:
    said = own()
    said.describe(describe(ME), 0.0)
    said.advert(0.0)
    assert said.overtake((9, 40), 1.0)
    made = said.advert(1.0)
    assert made is not None
    assert made[0].incarnation == 10
    assert not said.foreign((9, 41))


def test_lives_that_bear_one_incarnation_say_nothing_under_the_same_order() -> None:
    orders = set()
    for life in range(1000):
        said = Own(ME, GossipSection(), lambda body: fake_sign(ME, body), random.Random(life), 7)
        said.describe(describe(ME), 0.0)
        for n in range(5):
            made = said.advert(100.0 * n)
            assert made is not None
            orders.add(made[0].order)
    assert len(orders) == 5000


def test_who_is_overtaken_again_and_again_counts_on_no_more() -> None:
    """Lives that were forgotten are few, and say nothing new."""
    said = own()
    said.describe(describe(ME), 0.0)
    said.advert(0.0)
    tries = [said.overtake((said.incarnation + 1, 1), 1.0 + n) for n in range(6)]
    assert tries == [True] * 4 + [False] * 2
    assert said.incarnation == 7 + 8
    assert said.overtake((said.incarnation + 1, 1), 700.0)


def test_what_contradicts_is_signed_under_the_order_of_another_and_is_not_its_own_next_word() -> None:
    said = own()
    said.describe(describe(ME, "a"), 0.0)
    said.advert(0.0)
    order = said.order
    other = said.contradict((9, 40))
    assert unpack(other.body).order == (9, 40)
    assert fake_sign(ME, other.body) == other.signature
    assert said.order == order


def test_the_last_sequence_is_followed_by_the_next_incarnation() -> None:
    said = own()
    said.describe(describe(ME), 0.0)
    said.sequence = LAST
    made = said.advert(0.0)
    assert made is not None
    assert made[0].incarnation == 8


def test_the_last_incarnation_of_all_is_stayed_in() -> None:
    said = own()
    said.describe(describe(ME), 0.0)
    assert said.overtake((LAST, 5), 0.0)
    made = said.advert(0.0)
    assert made is not None
    assert made[0].order == (LAST, 6)
    assert not said.foreign((LAST, 6))


def test_leaving_is_a_small_tombstone_and_the_last_word() -> None:
    said = own()
    assert said.leave() is None, "who never spoke need not say goodbye"
    said.describe(replace(describe(ME, "n" * 100), models=(ModelOffer("m" * 100),)), 0.0)
    said.advert(0.0)
    last = said.sequence
    made = said.leave()
    assert made is not None
    advert, signed = made
    assert advert.gone
    assert (advert.order, advert.mesh, advert.lifetime_s) == ((7, last + 1), MESH, 86_400)
    assert len(signed.body) < 160
    assert said.leave() is None
    said.describe(describe(ME, "b"), 1.0)
    assert not said.refute(said.order, 1.0)
    assert said.due is None
    assert said.advert(100.0) is None


@pytest.mark.parametrize("wrong", [describe(node_id(1)), replace(describe(ME), name="x" * 129)])
def test_what_nobody_would_accept_is_refused_before_it_is_said(wrong: Advert) -> None:
    said = own()
    with pytest.raises(DecodeError):
        said.describe(wrong, 0.0)
    assert said.due is None
    said.describe(describe(ME), 0.0)
    with pytest.raises(DecodeError, match="mesh"):
        said.describe(describe(ME, mesh=bytes(32)), 0.0)


OFFERS = st.builds(
    ModelOffer,
    name=st.text("ab", min_size=1, max_size=100),
    loaded=st.booleans(),
    digest=st.sampled_from([b"", bytes(32)]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(OFFERS, max_size=80), st.integers(0, 70))
def test_what_does_not_fit_is_left_out_least_useful_first(offers: list[ModelOffer], neighbours: int) -> None:
    near = tuple(Neighbour(node_id(n), 1) for n in range(neighbours))
    whole = replace(describe(ME), models=tuple(offers), neighbours=near, lifetime_s=180)
    fitted = fit(whole)
    assert len(pack(replace(fitted, incarnation=LAST, sequence=LAST))) <= MAX_ADVERT_BYTES
    assert unpack(pack(fitted)) == fitted
    loaded = [offer for offer in offers if offer.loaded]
    if len(fitted.neighbours) < len(near):
        assert all(offer.loaded for offer in fitted.models)
        assert fitted.neighbours == near[: len(fitted.neighbours)]
    if [offer for offer in fitted.models if offer.loaded] != loaded:
        assert len(fitted.neighbours) <= 8
    kept = iter(offers)
    assert all(offer in kept for offer in fitted.models), "in the order in which they were listed"


def test_what_was_left_out_is_told() -> None:
    many = replace(describe(ME), models=tuple(ModelOffer("m" * 100 + str(n), loaded=n < 3) for n in range(60)))
    said = own()
    lost = said.describe(many, 0.0)
    assert lost is not None
    assert 20 < lost[0] < 40
    assert lost[1] == 0
    assert said.describe(describe(ME), 1.0) is None
