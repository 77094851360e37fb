from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.names import closest, same_model, split_pin

NAMES = st.text("abcXY:/.-_0é", min_size=1, max_size=20)
KNOWN = ["llama3.2:3b", "Qwen/Qwen2.5-7B-Instruct", "mistral:latest"]


@given(NAMES, NAMES)
def test_a_pin_is_what_follows_the_last_at_sign(model: str, node: str) -> None:
    assert split_pin(f"{model}@{node}") == (model, node)
    assert split_pin(f"org@{model}@{node}") == (f"org@{model}", node)


@given(NAMES)
def test_no_pin_leaves_the_name_alone(model: str) -> None:
    for name in (model, f"{model}@", f"@{model}", "@", ""):
        assert split_pin(name) == (name, None)


@given(NAMES, NAMES)
def test_same_model_is_symmetric_and_exact_but_for_latest(one: str, other: str) -> None:
    assert same_model(one, one)
    assert same_model(one, other) == same_model(other, one)
    assert same_model(one, f"{one}:latest")
    if same_model(one, other):
        assert one.removesuffix(":latest") == other.removesuffix(":latest")


@pytest.mark.parametrize(("asked", "offered"), [("llama3", "llama3.2"), ("LLAMA", "llama"), ("m:3b", "m:latest")])
def test_nearly_the_same_is_another_model(asked: str, offered: str) -> None:
    assert not same_model(asked, offered)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("llama3.2:3", "llama3.2:3b"),
        ("LLAMA3.2:3B", "llama3.2:3b"),
        ("qwen/qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("zzzzzzz", None),
        ("", None),
    ],
)
def test_the_hint_is_a_known_name_or_nothing(asked: str, hint: str | None) -> None:
    assert closest(asked, KNOWN) == hint
    assert closest(asked, reversed(KNOWN)) == hint
    assert closest(asked, []) is None
