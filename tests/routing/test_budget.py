"""What may be asked twice never exceeds its share, in any order and at any pace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.routing.budget import BUCKETS, HedgeBudget, RetryBudget

steps = st.lists(st.tuples(st.sampled_from(["request", "spend"]), st.floats(0.0, 3.0)), max_size=200)


@given(steps)
def test_retries_stay_within_their_share_of_the_window(steps: list[tuple[str, float]]) -> None:
    budget, now = RetryBudget(0.2, 10.0, 1.0), 0.0
    requests: list[float] = []
    spent: list[float] = []
    for what, later_s in steps:
        now += later_s
        since = (int(now) - BUCKETS + 1) * 1.0
        if what == "request":
            budget.request(now)
            requests.append(now)
            continue
        lately = [len([at for at in ats if at >= since]) for ats in (requests, spent)]
        allowed = budget.spend(now)
        assert allowed == (lately[1] + 1 <= max(10.0, 0.2 * lately[0]))
        if allowed:
            spent.append(now)


def test_a_quiet_node_may_retry_a_little_and_then_must_wait() -> None:
    budget = RetryBudget(0.2, 10.0, 1.0)
    assert [budget.spend(0.0) for _ in range(12)].count(True) == 10
    assert not budget.spend(9.0)
    assert budget.spend(10.0)


def test_what_is_lent_counts_until_it_is_given_back_or_its_window_is_over() -> None:
    budget = RetryBudget(0.2, 10.0, 1.0)
    lent = [budget.lend(0.0) for _ in range(8)]
    assert [one is not None for one in lent] == [True] * 7 + [False], "of ten, three are for failures"
    assert [budget.spend(0.0) for _ in range(4)] == [True] * 3 + [False]
    assert lent[0] is not None and lent[1] is not None
    budget.give_back(lent[0])
    assert budget.spend(1.0)
    assert not budget.spend(1.0)
    assert budget.lend(10.0) is not None
    budget.give_back(lent[1])
    assert [budget.spend(10.0) for _ in range(9)] == [True] * 8 + [False], "what was long forgotten gives nothing back"


@given(st.lists(st.booleans(), max_size=500))
def test_hedges_stay_within_their_share_of_all_requests(steps: list[bool]) -> None:
    budget, requests, hedges = HedgeBudget(0.1), 0, 0
    for request in steps:
        if request:
            budget.request()
            requests += 1
        elif budget.left():
            budget.spend()
            hedges += 1
        assert hedges <= 0.1 * requests + 1e-6
