from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import DecodeError
from meshnode.model.ids import NodeId

IDS = st.binary(min_size=32, max_size=32).map(NodeId)


@given(IDS)
def test_text_is_read_back_in_either_case(node: NodeId) -> None:
    assert NodeId.parse(node.text) == node
    assert NodeId.parse(node.text.upper()) == node
    assert len(node.text) == 52
    assert node.text.upper() == base64.b32encode(node).decode().rstrip("=")


@given(IDS)
def test_the_short_form_begins_the_text_and_is_what_people_see(node: NodeId) -> None:
    assert node.text.startswith(node.short.replace("-", ""))
    assert len(node.short) == 9
    assert node.short in repr(node)
    assert str(node) == repr(node)


@given(st.binary(max_size=80).filter(lambda raw: len(raw) != 32))
def test_other_lengths_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        NodeId(raw)


@settings(max_examples=300)
@given(st.text(max_size=60) | st.text("abcdefghijklmnopqrstuvwxyz234567=", min_size=50, max_size=56))
def test_any_text_is_the_spelling_of_an_id_or_an_error(text: str) -> None:
    try:
        node = NodeId.parse(text)
    except DecodeError:
        return
    assert node.text == text.lower()


@given(IDS, st.integers(0, 51), st.sampled_from("\u0131\u017f\u212a1089=-_ é\n\x00\ud800"))
def test_letters_that_only_look_right_are_refused(node: NodeId, position: int, letter: str) -> None:
    with pytest.raises(DecodeError):
        NodeId.parse(node.text[:position] + letter + node.text[position + 1 :])


@given(IDS)
def test_one_id_has_one_spelling(node: NodeId) -> None:
    """52 letters hold 260 bits: the last four could be anything if nobody looked."""
    last = "abcdefghijklmnopqrstuvwxyz234567".index(node.text[-1])
    for spare in range(1, 16):
        other = "abcdefghijklmnopqrstuvwxyz234567"[last ^ spare]
        with pytest.raises(DecodeError):
            NodeId.parse(node.text[:-1] + other)
    with pytest.raises(DecodeError):
        NodeId.parse(node.text + "====")


@given(IDS)
def test_is_its_bytes_to_dictionaries(node: NodeId) -> None:
    assert {node: 1}[bytes(node)] == 1  # type: ignore[index]
    assert hash(node) == hash(bytes(node))
