"""Waits beside an ideal shared queue, and what liars get, at a size that costs a second; `make load` has the length."""

from __future__ import annotations

import pytest

from tests.simulation.load import MOST_OF_IDEAL, MOST_OF_LIAR
from tests.simulation.load_mesh import run
from tests.simulation.load_servers import LIES
from tests.simulation.traffic import Demand, ideal, quantile

SMALL = Demand(seconds=240)


def test_p99_at_80_percent_load_is_near_that_of_one_shared_queue() -> None:
    found, (first_s, whole_s) = run(SMALL), ideal(SMALL)
    assert found.requests > 1000
    assert not found.errors
    assert quantile(found.whole_s, 0.99) <= MOST_OF_IDEAL * quantile(whole_s, 0.99)
    assert quantile(found.first_s, 0.5) <= MOST_OF_IDEAL * quantile(first_s, 0.5)


def test_who_serves_too_chooses_as_well() -> None:
    demand = Demand(seconds=240, entries=12, mixed=True)
    found, (_, whole_s) = run(demand), ideal(demand)
    assert not found.errors
    assert quantile(found.whole_s, 0.99) <= MOST_OF_IDEAL * quantile(whole_s, 0.99)


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_gets_few_requests_once_it_is_known(lie: str) -> None:
    found = run(Demand(seconds=240, lie=lie))
    assert 0 < found.touched[0] <= MOST_OF_LIAR * found.requests, "an equal share would be 8.3 %"
    assert set(found.errors) <= ({"CUT"} if lie == "cuts" else set()), "others answer instead"


def test_a_seed_decides_everything() -> None:
    short = Demand(seconds=90, servers=4, entries=3)
    assert run(short) == run(short)
    assert run(short) != run(Demand(seconds=90, servers=4, entries=3, seed=2))
