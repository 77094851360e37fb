"""The order of attempts: this node while it is quick, two by lot, then by score; never the same node twice."""

from __future__ import annotations

import dataclasses
from collections import Counter
from random import Random

import pytest

from meshnode.config.dispatch import DispatchSection
from meshnode.model.view import View
from meshnode.routing import Attempt, LocalState, Plan, Router
from meshnode.slots import Load
from tests.routing.build import ME, NOTHING, SECTION, job, mesh, node, offer, router, serving, star

RNG = Random(7)


@pytest.fixture(autouse=True)
def _same_lots_for_every_test() -> None:
    RNG.seed(7)


def plan(made: Router, view: View, local: LocalState = NOTHING, now: float = 0.0, rng: Random = RNG) -> Plan:
    return made.plan(job(prompt_tokens=750), view, local, rng, now)


def answer(made: Router, number: int, now: float, first_s: float = 0.5, token_s: float = 0.02) -> None:
    """Teach the router one answer of a node, which ends at `now`."""
    attempt = Attempt(node(number), "llama", (), made.consider(job(), star(1), NOTHING, RNG, now).attempts[0].score)
    flight = made.started(attempt, 750, now - first_s - 100 * token_s)
    made.first_token(flight, now - 100 * token_s)
    made.finished(flight, 101, now)


def fail(made: Router, number: int, times: int, now: float) -> None:
    attempt = Attempt(node(number), "llama", (), made.consider(job(), star(1), NOTHING, RNG, now).attempts[0].score)
    for _ in range(times):
        made.failed(made.started(attempt, 750, now), now)


def first(made: Router, view: View, local: LocalState = NOTHING, now: float = 0.0) -> int:
    return plan(made, view, local, now).attempts[0].node[1]


def busy(wait_s: float) -> LocalState:
    return serving(Load(free=0, busy=1, queued=1, expected_wait_s=wait_s))


WITH_PEERS = [(0, 1, 5), (0, 2, 5)]


@pytest.mark.parametrize("wait_s", [0.0, 1.9])
def test_this_node_answers_while_its_wait_is_bearable(wait_s: float) -> None:
    made = router()
    answer(made, 0, 10.0, token_s=0.1)
    answer(made, 1, 10.0, token_s=0.001)
    found = plan(made, mesh(WITH_PEERS), busy(wait_s), 10.0)
    assert found.attempts[0].node == ME
    assert found.attempts[0].path == (ME,)
    assert len(found.attempts) == 3


def test_peers_answer_when_waiting_here_takes_longer() -> None:
    made = router()
    for number in range(3):
        answer(made, number, 10.0)
    found = plan(made, mesh(WITH_PEERS), busy(30.0), 10.0)
    assert {attempt.node for attempt in found.attempts[:2]} == {node(1), node(2)}
    assert found.attempts[2].node == ME


@pytest.mark.parametrize(("margin_s", "winner"), [(-0.1, 0), (0.1, 1)])
def test_this_node_keeps_what_no_peer_does_a_quarter_quicker(margin_s: float, winner: int) -> None:
    made = router()
    answer(made, 0, 10.0)
    answer(made, 1, 10.0, token_s=0.04)
    usual_s = 0.5 + 256 * 0.02
    peer_s = 0.5 + 256 * 0.04
    wait_s = peer_s * 1.25 - usual_s + margin_s
    assert first(made, mesh([(0, 1, 5)]), busy(wait_s), 10.0) == winner


def test_a_cold_model_here_is_a_wait() -> None:
    view = mesh(WITH_PEERS, changes={0: {"models": (offer(loaded=False),)}})
    assert first(router(), view, serving()) != 0


def test_being_free_is_no_merit_of_an_engine_that_fails() -> None:
    made = router()
    answer(made, 1, 10.0)
    assert first(made, mesh([(0, 1, 5)]), serving(), 10.0) == 0
    fail(made, 0, 4, 10.0)
    assert first(made, mesh([(0, 1, 5)]), serving(), 10.0) == 1


def test_a_peer_that_fails_is_left_for_last() -> None:
    made = router()
    for number in (1, 2, 3):
        answer(made, number, 10.0)
    fail(made, 2, 4, 10.0)
    firsts = Counter(first(made, star(3), now=10.0) for _ in range(300))
    assert firsts[2] == 0


def test_quick_servers_are_drawn_more_often_but_not_always() -> None:
    made = router()
    for number in range(1, 9):
        answer(made, number, 10.0, token_s=0.01 * number)
    firsts = Counter(first(made, star(8), now=10.0) for _ in range(2000))
    assert firsts[1] > firsts[2] > firsts[4] > firsts[7]
    assert 900 < firsts[1] < 1400, "two drawn alike would give 500 of 2000, the best of all 2000"
    assert firsts[8] == 0, "the slowest never wins against another"


def test_own_requests_under_way_send_the_next_ones_elsewhere() -> None:
    made = router()
    view = star(4)
    for _ in range(100):
        attempt = plan(made, view).attempts[0]
        made.started(attempt, 750, 0.0)
    outstanding = [record.outstanding for record in made.known.measurements.of("llama").values()]
    assert sum(outstanding) == 100
    assert max(outstanding) - min(outstanding) < 10


def test_a_share_of_draws_meets_the_slow_again() -> None:
    section = dataclasses.replace(SECTION, explore=1.0)
    made = router(section)
    for number in (1, 2, 3):
        answer(made, number, 10.0, token_s=0.01 if number < 3 else 5.0)
    firsts = Counter(first(made, star(3), now=10.0) for _ in range(900))
    assert min(firsts[number] for number in (1, 2, 3)) > 200


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_there_are_as_many_attempts_as_may_be_made_and_no_node_twice(retries: int) -> None:
    made = router(dispatch=DispatchSection(retries=retries))
    found = plan(made, mesh([(0, n, 5) for n in range(1, 9)]), serving())
    nodes = [attempt.node for attempt in found.attempts]
    assert len(set(nodes)) == len(nodes) == 1 + retries


def test_after_the_draw_the_rest_comes_by_score() -> None:
    made = router(dispatch=DispatchSection(retries=7))
    for number in range(1, 9):
        answer(made, number, 10.0, token_s=0.01 * number)
    firsts = set()
    for _ in range(20):
        values = [attempt.score.value for attempt in plan(made, star(8), now=10.0).attempts]
        assert len(values) == 8
        assert values[1:] == sorted(values[1:])
        firsts.add(values[0])
    assert len(firsts) > 1, "who is first is by lot"


def test_two_engines_of_one_node_for_one_model_are_one_attempt() -> None:
    view = star(1, {1: {"models": (offer(), offer(context=100))}})
    found = plan(router(), view)
    assert [attempt.node for attempt in found.attempts] == [node(1)]


def test_what_is_known_of_a_view_is_kept_until_it_changes() -> None:
    made = router()
    view = star(2)
    _, offers = made.known.offers(view)
    assert made.known.offers(view)[1] is offers
    assert first(made, star(1)) == 1
    assert made.known.offers(view)[1] is not offers
