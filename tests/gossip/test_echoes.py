"""Frames that say once more what stands in the table: recognized while they are recent, and only while it stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.config.gossip import GossipSection
from meshnode.gossip.echoes import Echoes
from meshnode.gossip.messages import Adverts, Carried, encode_message
from meshnode.gossip.table import Table
from meshnode.model.advert import Advert
from tests.gossip.world import MESH, node_id, signed

MOST, MOST_BYTES = 128, 2048
"""Frames remembered, and how large one may be."""


def advert(number: int, sequence: int = 1, **more: object) -> Advert:
    return Advert(node_id(number), MESH, 1, sequence, 180, **more)  # type: ignore[arg-type]


def took(table: Table, *said: Advert, now: float = 0.0) -> tuple[bytes, tuple[Carried, ...]]:
    """A frame, once the table has been told all of it."""
    items = tuple(Carried(signed(one), 180) for one in said)
    for one, item in zip(said, items, strict=True):
        table.merge(one, item.signed, item.left_s, now)
    return encode_message(Adverts(items)), items


def echoes() -> tuple[Table, Echoes]:
    table = Table(GossipSection())
    return table, Echoes(table)


def test_the_same_frame_is_known_again_and_another_is_not() -> None:
    table, made = echoes()
    frame, items = took(table, advert(1), advert(2))
    assert frame not in made
    made.remember(frame, items)
    assert frame in made
    assert took(table, advert(1), advert(3))[0] not in made


def test_a_tombstone_is_news_only_once() -> None:
    table, made = echoes()
    frame, items = took(table, advert(1, gone=True))
    made.remember(frame, items)
    assert frame in made


def test_a_frame_of_which_part_was_not_taken_is_read_again() -> None:
    table, made = echoes()
    frame, items = took(table, advert(1), advert(2))
    table.drop(node_id(2))
    made.remember(frame, items)
    assert frame not in made


def test_a_frame_about_what_is_over_is_read_again_since_a_copy_may_bring_it_back() -> None:
    table, made = echoes()
    frame, items = took(table, advert(1))
    table.expire(1_000.0)
    made.remember(frame, items)
    assert frame not in made


def test_an_answer_of_many_adverts_is_not_kept() -> None:
    table, made = echoes()
    frame, items = took(table, *(advert(number) for number in range(20)))
    assert len(frame) > MOST_BYTES
    made.remember(frame, items)
    assert len(made) == 0


@given(st.lists(st.integers(0, 300), max_size=400))
def test_at_most_so_many_are_kept_and_the_last_one_always_is(numbers: list[int]) -> None:
    table, made = echoes()
    for number in numbers:
        frame, items = took(table, advert(number))
        made.remember(frame, items)
        assert frame in made
        assert len(made) <= MOST


def test_the_first_frame_goes_first() -> None:
    table, made = echoes()
    frames = [took(table, advert(number)) for number in range(MOST + 1)]
    for frame, items in frames:
        made.remember(frame, items)
    assert [frame in made for frame, _ in frames] == [False, *[True] * MOST]
