"""A server that works again is believed again, beside one that always did: breakers close by probes, not by luck."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.routing import Router
from meshnode.routing.order import PROBED
from meshnode.slots import Load
from tests.routing.build import NOTHING, SECTION, job, mesh, node, router, serving, star

BROKEN = node(1)


def request(made: Router, peers: int, broken: bool, rng: Random, now: float) -> list[int]:
    """One request as dispatch runs it: the next server after a failure. Whom it asked."""
    asked = []
    for attempt in made.plan(job(prompt_tokens=100), star(peers), NOTHING, rng, now).attempts:
        asked.append(attempt.node[1])
        flight = made.started(attempt, 100, now)
        if broken and attempt.node == BROKEN:
            made.failed(flight, now)
            continue
        made.first_token(flight, now + 0.2)
        made.finished(flight, 50, now + 0.9)
        return asked
    raise AssertionError("nobody answered")


def state(made: Router, now: float) -> str:
    return made.known.breakers.state(BROKEN, "llama", now)


def broken_for(made: Router, peers: int, rng: Random, faults_s: int) -> float:
    """A request a second while the server fails, from when it has opened its breaker. When the faults stop."""
    first = made.consider(job(), star(1), NOTHING, rng, 0.0).attempts[0]
    for _ in range(SECTION.breaker_failures):
        made.failed(made.started(first, 100, 0.0), 0.0)
    for second in range(1, faults_s + 1):
        request(made, peers, True, rng, float(second))
    return float(faults_s)


@pytest.mark.parametrize("peers", [2, 5])
@pytest.mark.parametrize("faults_s", [1, 10, 60])
def test_breakers_close_within_a_minute_after_the_faults_stop(peers: int, faults_s: int) -> None:
    for seed in range(20):
        made, rng = router(), Random(seed)
        stopped = broken_for(made, peers, rng, faults_s)
        assert state(made, stopped) != "closed"
        for second in range(1, 60):
            request(made, peers, False, rng, stopped + second)
        assert state(made, stopped + 60) == "closed", seed


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 900), st.integers(0, 2**32))
def test_it_never_stays_open_longer_than_the_most_and_two_probes(faults_s: int, seed: int) -> None:
    made, rng = router(), Random(seed)
    stopped = broken_for(made, 2, rng, faults_s)
    most = int(SECTION.breaker_most_s + 2 * SECTION.breaker_probe_s) + 1
    for second in range(1, most + 1):
        request(made, 2, False, rng, stopped + second)
    assert state(made, stopped + most) == "closed"


def test_a_server_that_still_fails_costs_one_attempt_for_each_time_it_was_open() -> None:
    made, rng = router(), Random(3)
    broken_for(made, 2, rng, 0)
    asked = [request(made, 2, True, rng, float(second)) for second in range(1, 301)]
    probes = [servers for servers in asked if 1 in servers]
    assert all(servers == [1, 2] for servers in probes)
    # Open for 5, 10, 20, 40, 60, 60, 60 s.
    assert 5 <= len(probes) <= 8


def test_between_two_probes_the_others_answer() -> None:
    made, rng = router(), Random(1)
    broken_for(made, 2, rng, 0)
    probe = made.plan(job(), star(2), NOTHING, rng, 6.0)
    assert (probe.attempts[0].node, probe.reason) == (BROKEN, PROBED)
    made.started(probe.attempts[0], 100, 6.0)
    assert [one.node for one in made.plan(job(), star(2), NOTHING, rng, 6.5).attempts] == [node(2)]


def test_what_this_node_answers_without_waiting_is_no_probe() -> None:
    made, rng = router(), Random(1)
    broken_for(made, 1, rng, 0)
    view = mesh([(0, 1, 5)])
    assert made.plan(job(), view, serving(), rng, 6.0).attempts[0].node == node(0)
    waits = serving(Load(free=0, busy=1, queued=9, expected_wait_s=1e3))
    assert made.plan(job(), view, waits, rng, 6.0).attempts[0].node == BROKEN


def test_the_only_server_is_no_probe_but_the_only_hope() -> None:
    made, rng = router(), Random(1)
    broken_for(made, 1, rng, 0)
    assert made.plan(job(), star(1), NOTHING, rng, 6.0).reason != PROBED
