"""The face: what is told of a request reaches measurements and breakers together, once."""

from __future__ import annotations

from random import Random

from meshnode.routing import Flight, Router
from tests.routing.build import NOTHING, job, mesh, node, router, star


def sent(made: Router, now: float) -> Flight:
    return made.started(made.plan(job(), star(1), NOTHING, Random(1), now).attempts[0], 10, now)


def state(made: Router, now: float) -> str:
    return made.known.breakers.state(node(1), "llama", now)


def test_failures_open_the_breaker_and_count_once_each() -> None:
    made = router()
    for _ in range(4):
        flight = sent(made, 0.0)
        made.failed(flight, 0.0)
        made.failed(flight, 0.0)
    assert state(made, 0.0) == "closed"
    made.failed(sent(made, 0.0), 0.0)
    assert state(made, 0.0) == "open"


def test_full_and_clients_own_ends_are_no_failures() -> None:
    made = router()
    for _ in range(20):
        made.refused(sent(made, 0.0), None, 0.0)
        made.cancelled(sent(made, 0.0), 0.0)
    assert state(made, 0.0) == "closed"
    record = made.known.measurements.of("llama")[node(1)]
    assert record.outstanding == 0
    assert record.reported_until == 1.0


def test_a_wrong_word_on_load_is_forgotten() -> None:
    made = router()
    made.refused(sent(made, 0.0), 1e9, 0.0)
    assert made.known.measurements.of("llama")[node(1)].reported_until == 60.0


def test_a_probe_that_ends_well_twice_closes_the_breaker() -> None:
    made = router()
    for _ in range(5):
        made.failed(sent(made, 0.0), 0.0)
    for now in (6.0, 7.0):
        flight = sent(made, now)
        assert made.known.breakers.shut_out(("llama",), now + 0.5)
        made.first_token(flight, now)
        made.finished(flight, 5, now)
        made.failed(flight, now)
    assert state(made, 7.0) == "closed"


def test_the_next_hop_is_never_one_that_was_passed() -> None:
    view = mesh([(0, 1, 5), (1, 3, 5), (0, 2, 50), (2, 3, 50)])
    made = router()
    assert made.next_hop(view, node(3)) == node(1)
    assert made.next_hop(view, node(3), (node(1),)) == node(2)
    assert made.next_hop(view, node(3), (node(1), node(2))) is None
    assert made.next_hop(view, node(3), (), 1) is None


def test_an_attempt_is_led_around_who_was_lost() -> None:
    view = mesh([(0, 1, 1), (0, 2, 5), (1, 3, 1), (2, 3, 5)], changes={n: {"models": ()} for n in range(3)})
    made = router()
    attempt = made.plan(job(), view, NOTHING, Random(1), 0.0).attempts[0]
    assert made.around(attempt, view, {node(2)}, 4) is attempt
    led = made.around(attempt, view, {node(1)}, 4)
    assert led is not None
    assert led.path == (node(0), node(2), node(3))
    assert made.around(attempt, view, {node(1), node(2)}, 4) is None
    assert made.around(attempt, view, {node(1)}, 1) is None
