"""Breakers: opened by failures in a row, closed by successes, in between one probe at a time."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.model.ids import NodeId
from meshnode.routing.breaker import Breakers
from tests.routing.build import SECTION, node

ONE = (node(1), "llama")


def fail(breakers: Breakers, times: int, now: float) -> None:
    for _ in range(times):
        breakers.failed(*ONE, now)


def allows(breakers: Breakers, server: NodeId, model: str, now: float) -> bool:
    return (server, model) not in breakers.shut_out((model,), now)


def test_five_failures_in_a_row_open_it_and_a_success_between_starts_over() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 4, 0.0)
    breakers.succeeded(*ONE, 0.0)
    fail(breakers, 4, 0.0)
    assert allows(breakers, *ONE, 0.0)
    fail(breakers, 1, 0.0)
    assert not allows(breakers, *ONE, 0.0)
    assert breakers.shut_out(["llama"], 0.0) == {ONE}


def test_models_and_nodes_fail_apart() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 5, 0.0)
    assert allows(breakers, node(1), "qwen", 0.0)
    assert allows(breakers, node(2), "llama", 0.0)
    assert breakers.shut_out(["qwen"], 0.0) == frozenset()


def test_half_open_lets_one_probe_through_each_second() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 5, 0.0)
    assert breakers.state(*ONE, 4.9) == "open"
    assert breakers.state(*ONE, 5.0) == "half-open"
    assert allows(breakers, *ONE, 5.0)
    breakers.started(*ONE, 5.0)
    assert not allows(breakers, *ONE, 5.5)
    assert allows(breakers, *ONE, 6.0)


def test_two_successes_close_it() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 5, 0.0)
    breakers.succeeded(*ONE, 6.0)
    assert breakers.state(*ONE, 6.0) == "half-open"
    breakers.succeeded(*ONE, 6.5)
    assert breakers.state(*ONE, 6.5) == "closed"
    assert len(breakers) == 0


def test_each_failed_probe_doubles_the_time_up_to_a_minute() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 5, 0.0)
    now, lengths = 0.0, []
    for _ in range(6):
        opened = now
        while breakers.state(*ONE, now) == "open":
            now += 0.5
        lengths.append(now - opened)
        breakers.failed(*ONE, now)
    assert lengths == [5, 10, 20, 40, 60, 60]


def test_what_began_before_it_opened_changes_nothing() -> None:
    breakers = Breakers(SECTION)
    fail(breakers, 7, 0.0)
    breakers.succeeded(*ONE, 1.0)
    breakers.succeeded(*ONE, 2.0)
    assert breakers.state(*ONE, 4.0) == "open"
    assert breakers.state(*ONE, 5.0) == "half-open"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=100))
def test_the_table_is_bounded_and_only_failures_fill_it(events: list[tuple[int, bool]]) -> None:
    breakers = Breakers(dataclasses.replace(SECTION, measured=5))
    for at, (number, ok) in enumerate(events):
        (breakers.succeeded if ok else breakers.failed)(node(number), "llama", float(at))
        assert len(breakers) <= 5
    if all(ok for _, ok in events):
        assert len(breakers) == 0
