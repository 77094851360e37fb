"""What a request asks of its server beyond its body."""

from __future__ import annotations

import pytest

from meshnode.dialects import read_demands
from meshnode.errors import BadRequest
from meshnode.model.job import NO_DEMANDS, Demands


def test_nothing_said_is_nothing_asked() -> None:
    assert read_demands({"authorization": "Bearer x"}) is NO_DEMANDS


def test_every_header_is_read() -> None:
    headers = {"x-meshnode-quant": "q5", "x-meshnode-max-price": "0.25", "x-meshnode-machines": "own"}
    assert read_demands(headers) == Demands(5, 250_000, True)
    assert read_demands({"x-meshnode-machines": "any"}) == NO_DEMANDS
    assert read_demands({"x-meshnode-max-price": "0"}).most_price_micro == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-meshnode-quant", "good"),
        ("x-meshnode-quant", ""),
        ("x-meshnode-max-price", "cheap"),
        ("x-meshnode-max-price", "nan"),
        ("x-meshnode-max-price", "-1"),
        ("x-meshnode-max-price", "inf"),
        ("x-meshnode-machines", "mine"),
    ],
)
def test_what_means_nothing_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_demands({name: value})
    assert caught.value.param == name


def test_two_demands_together_are_the_stricter_of_each() -> None:
    one, other = Demands(quant_bits=4, most_price_micro=5), Demands(8, None, True)
    assert one.both(other) == other.both(one) == Demands(8, 5, True)
    assert one.both(NO_DEMANDS) == one
