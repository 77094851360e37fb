"""What a key lets a request ask, and that the stricter of key and request wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.access import OPEN, Caller
from meshnode.access.caller import at_most
from meshnode.model.job import Label, Priority, stricter

LABELS, TIERS = st.sampled_from(Label), st.sampled_from(Priority)


@pytest.mark.parametrize(
    ("models", "asked", "may"),
    [
        ((), "anything", True),
        (("llama3",), "llama3", True),
        (("llama3",), "llama3:latest", True),
        (("llama3:latest",), "llama3", True),
        (("llama3",), "llama3@studio", True),
        (("llama3@studio",), "llama3@studio", True),
        (("llama3@studio",), "llama3@attic", False),
        (("llama3@studio",), "llama3", False),
        (("llama3",), "llama3:70b", False),
        (("llama3",), "llama3:q4", False),
        (("llama3*",), "llama3:70b", True),
        (("llama3*",), "mistral", False),
        (("a", "b*"), "bee", True),
        (("*",), "anything", True),
        (("llama3",), "LLAMA3", False),
    ],
)
def test_models_are_asked_for_by_the_names_that_are_listed(models: tuple[str, ...], asked: str, may: bool) -> None:
    assert Caller(models=models).may_ask(asked) is may


@given(LABELS, LABELS)
def test_the_stricter_label_wins(asked: Label, of_key: Label) -> None:
    assert Caller(label=of_key).labelled(asked) is stricter(asked, of_key)


@given(TIERS, TIERS)
def test_no_request_is_served_before_its_keys_tier(asked: Priority, of_key: Priority) -> None:
    assert Caller(priority=of_key).tier(asked) is max(asked, of_key)
    assert Caller(priority=of_key).tier(None) is of_key


def test_where_no_key_is_needed_the_request_chooses_its_tier() -> None:
    assert [OPEN.tier(one) for one in (None, Priority.HIGH, Priority.LOW)] == [
        Priority.NORMAL, Priority.HIGH, Priority.LOW,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "most", "found"), [(None, None, None), (1, None, 1), (None, 2, 2), (1, 2, 1), (3, 2, 2)]
)
def test_the_shorter_time_wins(asked: float | None, most: float | None, found: float | None) -> None:
    assert at_most(asked, most) == found
