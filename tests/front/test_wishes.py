"""Headers that ask something of this node: read exactly, refused with their name, credentials unreadable."""

from __future__ import annotations

import pytest

from meshnode.access import OPEN
from meshnode.errors import BadRequest
from meshnode.front.wishes import read_wishes
from meshnode.model.job import NO_WISHES, Wishes


def test_most_requests_wish_for_nothing() -> None:
    assert read_wishes({"content-type": "application/json"}, OPEN) is NO_WISHES


def test_wishes_are_read() -> None:
    headers = {"x-meshnode-fanout": "3", "x-meshnode-failover": "continue", "idempotency-key": "a-1"}
    assert read_wishes(headers, OPEN) == Wishes(3, True, "a-1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-meshnode-fanout", "0"),
        ("x-meshnode-fanout", "5"),
        ("x-meshnode-fanout", "2.5"),
        ("x-meshnode-fanout", "\N{SUPERSCRIPT TWO}"),
        ("x-meshnode-failover", "yes"),
        ("idempotency-key", "a b"),
        ("idempotency-key", "x" * 256),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_wishes({name: value}, OPEN)
    assert caught.value.param == name


def test_clients_are_told_apart_by_credentials_that_are_not_kept() -> None:
    one, other = (read_wishes({"authorization": f"Bearer {word}"}, OPEN).tenant for word in ("canary", "other"))
    assert one != other
    assert "canary" not in one
    assert read_wishes({"authorization": "Bearer canary"}, OPEN).tenant == one


@pytest.mark.parametrize("name", ["x-meshnode-first-token-timeout", "x-meshnode-silence-timeout"])
def test_a_client_says_how_long_it_waits(name: str) -> None:
    wishes = read_wishes({name: "2.5"}, OPEN)
    assert 2.5 in (wishes.first_token_s, wishes.silence_s)
    for text in ("", "-1", "nan", "inf", "soon", "100000"):
        with pytest.raises(BadRequest, match=name):
            read_wishes({name: text}, OPEN)
