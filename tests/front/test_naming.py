"""A word means one node or none: names, short forms and whole ids, and what is said where it is not clear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import BadRequest
from meshnode.front.naming import LISTED, resolve
from meshnode.model.ids import NodeId

STUDIO, ATTIC, OTHER = (NodeId(bytes([number]) * 32) for number in (1, 2, 3))
KNOWN = [(STUDIO, "studio"), (ATTIC, "attic"), (OTHER, "attic 2")]


@pytest.mark.parametrize("text", ["studio", STUDIO.short, STUDIO.short.upper(), STUDIO.text, f" {STUDIO.text}\n"])
def test_a_name_the_short_form_and_the_whole_id_mean_the_same(text: str) -> None:
    assert resolve(text, KNOWN) == STUDIO


def test_a_pinned_name_is_found_as_it_is_kept() -> None:
    assert resolve("Loft", [(ATTIC, "loft")]) == ATTIC


def test_a_whole_id_means_itself_though_nobody_knows_it() -> None:
    assert resolve(OTHER.text, []) == OTHER


def test_an_ambiguous_name_lists_the_ids() -> None:
    with pytest.raises(BadRequest, match="2 nodes") as caught:
        resolve("studio", [*KNOWN, (OTHER, "studio")])
    assert STUDIO.text in str(caught.value) and OTHER.text in str(caught.value)
    assert ATTIC.text not in str(caught.value)


@pytest.mark.parametrize("stolen", [STUDIO.short, STUDIO.text])
def test_a_node_that_takes_anothers_id_for_a_name_is_never_meant_by_it(stolen: str) -> None:
    known = [*KNOWN, (ATTIC, stolen)]
    if stolen == STUDIO.text:
        assert resolve(stolen, known) == STUDIO
    else:
        with pytest.raises(BadRequest, match="2 nodes"):
            resolve(stolen, known)


def test_one_node_under_two_names_is_one_node() -> None:
    assert resolve("attic", [(ATTIC, "attic"), (ATTIC, "attic")]) == ATTIC


def test_a_word_that_means_nobody_names_what_is_close() -> None:
    with pytest.raises(BadRequest, match="no node is called 'studoi'") as caught:
        resolve("studoi", KNOWN)
    assert STUDIO.text in str(caught.value) and OTHER.text not in str(caught.value)


def test_a_word_that_is_close_to_nobody_names_those_there_are() -> None:
    many = [(NodeId(bytes([number]) * 32), f"node-{number}") for number in range(LISTED + 3)]
    with pytest.raises(BadRequest, match="and 3 more"):
        resolve("xxxxxxxx", many)
    with pytest.raises(BadRequest, match="knows no other"):
        resolve("xxxxxxxx", [])


@given(st.text(max_size=60), st.lists(st.tuples(st.binary(min_size=32, max_size=32).map(NodeId), st.text(max_size=9))))
def test_whatever_is_typed_one_node_is_meant_or_the_reason_is_said(text: str, known: list[tuple[NodeId, str]]) -> None:
    try:
        found = resolve(text, known)
    except BadRequest:
        return
    assert found.text == text.strip().lower() or any(node == found for node, _ in known)


@pytest.mark.parametrize("text", ["stud", "tudio", "attic 22", "att", STUDIO.short[:4], STUDIO.text[:-1]])
def test_a_part_of_a_name_means_nobody(text: str) -> None:
    with pytest.raises(BadRequest):
        resolve(text, KNOWN)
